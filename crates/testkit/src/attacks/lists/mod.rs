//! The attacks on the way out: each a few lines of Python inside, and what it sees, what is recorded and what the world hears.
//!
//! It owns the form of a row and the words that the programs may use. It refuses a row whose end is not exact.

mod git;
mod names;
mod requests;
mod second;
mod secrets;
mod streams;

/// One attack on the way out.
#[derive(Debug)]
pub struct Reach {
    /// The row of the list that it belongs to.
    pub row: &'static str,
    /// What is tried.
    pub what: &'static str,
    /// How: Python, with the words of [`PRELUDE`](super::inside::PRELUDE) and [`NET`].
    pub script: &'static str,
    /// What it says, exactly.
    pub outcome: &'static str,
    /// What is recorded: each thing once, in the order of its words.
    pub records: &'static str,
    /// What the world hears.
    pub heard: &'static str,
}

/// All of them.
pub const LISTS: &[&[Reach]] = &[streams::LIST, names::LIST, requests::LIST, second::LIST, secrets::LIST, git::LIST];

/// What the scripts may use beside the words of the other prelude: connections, requests in HTTP/1 and frames of HTTP/2 as raw as they are wanted.
pub const NET: &str = r#"
import base64, gzip, re, ssl, time
socket.setdefaulttimeout(20)
NAME, EVIL, ADDRESS, TOKEN = 'read.test.example', 'evil.test.example', '93.184.216.66', os.environ['API_TOKEN']
def dial(host=NAME, port=80):
    return socket.create_connection((host, port), 20)
def trusting(check=True, alpn=('http/1.1',)):
    context = ssl.create_default_context()
    if not check:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context
def tls(host=NAME, port=443, name=None, alpn=('http/1.1',), check=True):
    return trusting(check, alpn).wrap_socket(dial(host, port), server_hostname=host if name is None else name or None)
def shake(*given, **named):
    def act():
        try:
            tls(*given, **named)
            return 'through'
        except (ssl.SSLError, ConnectionError):
            return 'ended'
    return act
def together(*tries):
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(32) as pool:
        return [done.result for done in [pool.submit(one) for one in tries]]
def get(target='/open', host=NAME, more='', method='GET', body=''):
    more += f'content-length: {len(body)}\r\n' if body else ''
    return f'{method} {target} HTTP/1.1\r\nhost: {host}\r\n{more}\r\n{body}'
def say(s, text):
    try:
        s.sendall(text.encode('latin-1') if isinstance(text, str) else text)
    except OSError:
        pass
    return s
def heard(s):
    got = b''
    try:
        while piece := s.recv(65536):
            got += piece
    except (ConnectionError, ssl.SSLError):
        pass
    return got.decode('latin-1')
def exactly(s, length):
    got = b''
    while len(got) < length and (piece := s.recv(length - len(got))):
        got += piece
    return got
def line(s):
    got = b''
    while not got.endswith(b'\n') and (piece := s.recv(1)):
        got += piece
    return got.decode('latin-1').strip()
def answer(s):
    try:
        first = line(s)
        if not first:
            return 'ended', ''
        fields = {}
        while field := line(s):
            name, _, value = field.partition(':')
            fields[name.lower()] = value.strip()
        if 'content-length' in fields:
            body = exactly(s, int(fields['content-length']))
        elif 'transfer-encoding' in fields:
            body = b''
            while size := int(line(s) or '0', 16):
                body += exactly(s, size + 2)[:-2]
            line(s)
        else:
            body = b''
        return first.split()[1], body.decode('latin-1')
    except (ConnectionError, ssl.SSLError):
        return 'ended', ''
def ask(s, text):
    return answer(say(s, text))[0]
def once(text, host=NAME, port=80):
    return lambda: ask(dial(host, port), text)
def statuses(s):
    return ' '.join(re.findall(r'HTTP/1\.1 (\d+) ', heard(s))) or 'ended'
def number(n, bits=7):
    most = 2 ** bits - 1
    if n < most:
        return bytes([n])
    out, n = bytes([most]), n - most
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])
def string(value):
    value = value.encode('latin-1') if isinstance(value, str) else value
    return number(len(value)) + value
def fields(*pairs):
    return b''.join(b'\0' + string(name) + string(value) for name, value in pairs)
def frame(kind, flags=0, stream=0, body=b''):
    return len(body).to_bytes(3, 'big') + bytes([kind, flags]) + stream.to_bytes(4, 'big') + body
def head(path='/open', authority=NAME, method='GET', scheme='https', more=()):
    pseudo = [(':method', method), (':scheme', scheme), (':authority', authority), (':path', path)]
    return fields(*[(name, value) for name, value in pseudo if value is not None], *more)
class Second:
    """A connection of HTTP/2. Its answers are read as far as their status."""
    DIGITS = {format(n, '05b') if n < 3 else format(22 + n, '06b'): str(n) for n in range(10)}
    def __init__(self, host=NAME, s=None):
        self.s, self.got, self.next = s or tls(host, alpn=['h2']), b'', 1
        say(self.s, b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + frame(4, 0, 0, struct.pack('>HIHI', 1, 0, 4, 1 << 20)))
    def send(self, block=None, flags=5, body=None):
        stream, self.next = self.next, self.next + 2
        say(self.s, frame(1, flags if body is None else flags & ~1, stream, head() if block is None else block))
        if body is not None:
            say(self.s, frame(0, 1, stream, body))
        return stream
    def take(self, length):
        while len(self.got) < length:
            piece = self.s.recv(65536)
            if not piece:
                raise EOFError
            self.got += piece
        taken, self.got = self.got[:length], self.got[length:]
        return taken
    def status(self, block):
        while block[0] & 0xe0 == 0x20:
            block = block[1:]
        known = {0x88: '200', 0x89: '204', 0x8a: '206', 0x8b: '304', 0x8c: '400', 0x8d: '404', 0x8e: '500'}
        if block[0] in known:
            return known[block[0]]
        length, value = block[1] & 127, block[2:]
        if not block[1] & 128:
            return value[:length].decode()
        bits, said = ''.join(format(byte, '08b') for byte in value[:length]), ''
        while len(said) < 3:
            size = next(size for size in (5, 6) if bits[:size] in self.DIGITS)
            said, bits = said + self.DIGITS[bits[:size]], bits[size:]
        return said
    def answer(self, stream):
        try:
            while True:
                top = self.take(9)
                kind, of = top[3], int.from_bytes(top[5:9], 'big')
                body = self.take(int.from_bytes(top[:3], 'big'))
                if kind == 1 and of == stream:
                    return self.status(body)
                if kind == 3 and of == stream:
                    return f'reset {int.from_bytes(body, "big")}'
                if kind == 7 and int.from_bytes(body[:4], 'big') < stream or kind == 7 and body[4:8] != bytes(4):
                    return f'goaway {int.from_bytes(body[4:8], "big")}'
        except (EOFError, ConnectionError, ssl.SSLError):
            return 'ended'
    def ask(self, block=None, **named):
        return self.answer(self.send(block, **named))
"#;
