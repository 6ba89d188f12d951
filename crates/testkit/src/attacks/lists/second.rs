//! HTTP/2: other authorities on the same connection, what has no form in HTTP/1, floods of frames.

use super::Reach;

pub(super) const LIST: &[Reach] = &[
    Reach {
        row: "N11",
        what: "the same over HTTP/2 in the clear",
        script: "c = Second(s=dial())\n\
                 print(c.ask(head(scheme='http')), *[c.ask(head(authority=a, scheme='http')) for a in (EVIL, 'twin.test.example', ADDRESS, NAME + ':443')], c.ask(head()), c.ask(head(scheme='http')))\n\
                 tell(lambda: Second(s=dial(EVIL)).ask(head(authority=EVIL, scheme='http')), lambda: Second(s=dial(EVIL)).ask(head(scheme='http')))",
        outcome: "200 421 421 421 421 421 200\nended",
        records: "connection.open evil.test.example: refused, no rule\n\
                  connection.open read.test.example: over\n\
                  request.send read.test.example: over\n\
                  request.send read.test.example: refused, egress:request",
        heard: "asked for read.test.example\n\
                read: GET /open, 2 times",
    },
    Reach {
        row: "N11",
        what: "domain fronting over HTTP/2: another authority, a Host beside it, on a connection that was good before and is after",
        script: "c = Second()\n\
                 print(c.ask(), *[c.ask(head(authority=a)) for a in (EVIL, 'twin.test.example', ADDRESS, NAME + ':80', f'{NAME}@{EVIL}', f'{EVIL}@{NAME}', NAME + '.', '', None)], \
                 c.ask(head(more=[('host', EVIL)])), c.ask(head(more=[('host', NAME), ('host', EVIL)])), c.ask(head(authority=None, more=[('host', EVIL)])), c.ask(head(scheme='http')), c.ask(head('/closed')), c.ask())",
        outcome: "200 421 421 421 421 400 400 400 reset 1 400 421 400 400 421 403 200",
        records: "connection.open read.test.example: over\n\
                  request.send read.test.example: over\n\
                  request.send read.test.example: refused, egress:request\n\
                  request.send read.test.example: refused, no rule",
        heard: "asked for read.test.example\n\
                read: GET /open, 2 times",
    },
    Reach {
        row: "N13",
        what: "requests of HTTP/2 that become two in HTTP/1: lengths that lie, connection headers, line feeds in values, names and paths",
        script: "bad = [head(method='POST', more=[('content-length', '5'), ('content-length', '6')]), head(method='POST', more=[('transfer-encoding', 'chunked')]), \
                 head(more=[('connection', 'keep-alive')]), head(more=[('te', 'chunked')]), head(more=[('x', 'a\\r\\nhost: ' + EVIL)]), head(more=[('x\\r\\ny', 'a')]), head(more=[('X', 'a')]), head(more=[('x ', 'a')]), \
                 head('/open HTTP/1.1\\r\\nhost: ' + EVIL), head('/open\\r\\n'), head('open'), head(''), head(None), head(method='GET /open HTTP/1.1\\r\\n'), head(method=''), head(more=[(':path', '/closed')]), \
                 head(more=[(':authority', EVIL)]), head(more=[('x', 'y'), (':method', 'PUT')]), head(more=[(':protocol', 'websocket')]), head(more=[('expect', 'x')])]\n\
                 print(*[Second().ask(block, body=b'hello' if b'POST' in block else None) for block in bad], sep='; ')",
        outcome: "reset 1; reset 1; reset 1; reset 1; goaway 1; goaway 1; goaway 1; goaway 1; reset 1; reset 1; reset 1; reset 1; reset 1; goaway 1; goaway 1; reset 1; reset 1; reset 1; reset 1; 417",
        records: "connection.open read.test.example: over\n\
                  request.send read.test.example: refused, egress:request",
        heard: "asked for read.test.example, 20 times",
    },
    Reach {
        row: "N14",
        what: "CONNECT and extended CONNECT in HTTP/2",
        script: "ws = [('sec-websocket-version', '13')]\n\
                 print(Second().ask(fields((':method', 'CONNECT'), (':authority', EVIL + ':443')), flags=4), Second().ask(fields((':method', 'CONNECT'), (':authority', NAME + ':443')), flags=4), \
                 Second('ws.test.example').ask(head('/open/ws', 'ws.test.example', 'CONNECT', more=[(':protocol', 'websocket'), *ws]), flags=4), \
                 Second().ask(head('/open', more=[('upgrade', 'websocket')])), sep='; ')",
        outcome: "405; 405; reset 1; reset 1",
        records: "connection.open read.test.example: over\n\
                  connection.open ws.test.example: over\n\
                  request.send read.test.example: refused, egress:request",
        heard: "asked for read.test.example, 3 times\n\
                asked for ws.test.example",
    },
    Reach {
        row: "N29",
        what: "streams that are reset as soon as they are opened, two thousand of them (CVE-2023-44487)",
        script: "c = Second(); print(c.ask())\n\
                 for _ in range(20):\n\
                 \x20   flood = b''\n\
                 \x20   for _ in range(100):\n\
                 \x20       flood += frame(1, 5, c.next, head('/open/reset')) + frame(3, 0, c.next, struct.pack('>I', 8)); c.next += 2\n\
                 \x20   say(c.s, flood)\n\
                 tell(lambda: Second().ask(), once(get()))",
        outcome: "200\n\
                  200",
        records: "connection.open read.test.example: over\n\
                  request.send read.test.example: over",
        heard: "asked for read.test.example, 3 times\n\
                read: GET /open, 3 times",
    },
    Reach {
        row: "N29",
        what: "heads without end: CONTINUATION frames, headers that unpack to megabytes, a hundred thousand empty ones",
        script: "def flood(first, *more):\n\
                 \x20   c = Second(); say(c.s, frame(1, 1, 1, first)); [say(c.s, frame(9, 0, 1, m)) for m in more]; return c.answer(1)\n\
                 big = b'\\x40' + string('x') + string('y' * 3000)\n\
                 tell(lambda: flood(head(), *[fields(('x', 'y' * 9000))] * 200), lambda: flood(head(), *[b''] * 20000), lambda: flood(head(), *[b'\\0\\0\\0'] * 20000))\n\
                 tell(lambda: Second().ask(head() + big + b'\\xbe' * 8000), lambda: Second().ask(head() + b'\\0' + string('x') + number(1 << 40)), lambda: Second().ask(b'\\x3f' + bytes([255] * 20)), lambda: Second().ask(b'\\xff' * 9))\n\
                 tell(lambda: Second().ask(), once(get()))",
        outcome: "goaway 11\n\
                  goaway 11 goaway 1\n\
                  200",
        records: "connection.open read.test.example: over\n\
                  request.send read.test.example: over",
        heard: "asked for read.test.example, 9 times\n\
                read: GET /open, 2 times",
    },
    Reach {
        row: "N29",
        what: "frames that want an answer and are not heard: a hundred thousand PINGs, SETTINGS, priorities, window updates; frames that are none",
        script: "def flood(one, many=100000):\n\
                 \x20   c = Second(); c.s.settimeout(3)\n\
                 \x20   try:\n\
                 \x20       for _ in range(many // 1000):\n\
                 \x20           c.s.sendall(one * 1000)\n\
                 \x20   except OSError:\n\
                 \x20       pass\n\
                 \x20   c.s.close(); return 'over'\n\
                 tell(*[lambda one=one: flood(one) for one in (frame(6, 0, 0, bytes(8)), frame(4, 0, 0, struct.pack('>HI', 4, 70000)), frame(2, 0, 1, bytes(4) + b'\\x10'), frame(8, 0, 0, bytes(4)), frame(0, 0, 1), frame(0x77, 0, 0, b'x'))])\n\
                 tell(lambda: Second().ask(), once(get()))",
        outcome: "over\n\
                  200",
        records: "connection.open read.test.example: over\n\
                  request.send read.test.example: over",
        heard: "asked for read.test.example, 8 times\n\
                read: GET /open, 2 times",
    },
    Reach {
        row: "N29",
        what: "bodies into streams whose answer nobody reads, and windows that never open: what is held is bounded, and who comes beside is served",
        script: "kept = []\n\
                 for _ in range(20):\n\
                 \x20   c = Second(); c.s.settimeout(0.5); kept.append(c)\n\
                 \x20   say(c.s, frame(1, 4, 1, head('/open/upload', method='POST')))\n\
                 \x20   try:\n\
                 \x20       for _ in range(200):\n\
                 \x20           c.s.sendall(frame(0, 0, 1, bytes(16384)))\n\
                 \x20   except OSError:\n\
                 \x20       pass\n\
                 tell(lambda: Second().ask(), once(get()))",
        outcome: "200",
        records: "connection.open read.test.example: over\n\
                  request.send read.test.example: over",
        heard: "asked for read.test.example, 22 times\n\
                read: GET /open, 2 times",
    },
];
