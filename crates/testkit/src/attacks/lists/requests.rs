//! Requests in HTTP/1: for other hosts, read in two ways, going over to something else, leading elsewhere.

use super::Reach;

pub(super) const LIST: &[Reach] = &[
    Reach {
        row: "N11",
        what: "domain fronting over HTTP/1: another host, as the second request, as an absolute target, by address",
        script: "s = tls()\n\
                 print(ask(s, get()), *[ask(s, get(host=h)) for h in (EVIL, 'twin.test.example', ADDRESS, NAME + ':80')], ask(s, get(target=f'https://{EVIL}/open')), \
                 ask(s, get(target=f'http://{NAME}/open')), ask(s, get()))\n\
                 s = dial()\n\
                 print(ask(s, get()), ask(s, get(host=EVIL)), ask(s, get(target=f'http://{EVIL}/open', host=NAME)), ask(s, get(target=f'http://{EVIL}/open', host=EVIL)), ask(s, get()))",
        outcome: "200 421 421 421 421 421 421 200\n\
                  200 421 421 421 200",
        records: "connection.open read.test.example: over\n\
                  request.send read.test.example: over\n\
                  request.send read.test.example: refused, egress:request",
        heard: "asked for read.test.example, 2 times\n\
                read: GET /open, 4 times",
    },
    Reach {
        row: "N13",
        what: "requests that two servers read differently, behind one that is good",
        script: "hidden = 'GET /open/hidden HTTP/1.1\\r\\nhost: read.test.example\\r\\n\\r\\n'\n\
                 bad = [get(method='POST', more='content-length: 5\\r\\ntransfer-encoding: chunked\\r\\n') + '0\\r\\n\\r\\n' + hidden,\n\
                 \x20   get(method='POST', more=f'transfer-encoding: chunked\\r\\ncontent-length: {len(hidden)}\\r\\n') + '0\\r\\n\\r\\n' + hidden,\n\
                 \x20   get(method='POST', more='content-length: 0\\r\\ncontent-length: 44\\r\\n') + hidden, get(method='POST', more='content-length: 0, 44\\r\\n') + hidden,\n\
                 \x20   get(method='POST', more='transfer-encoding: xchunked\\r\\n') + '0\\r\\n\\r\\n' + hidden, get(method='POST', more='transfer-encoding:\\x0bchunked\\r\\n') + hidden,\n\
                 \x20   get(method='POST', more='transfer-encoding: chunked\\r\\ntransfer-encoding: identity\\r\\n') + '0\\r\\n\\r\\n' + hidden,\n\
                 \x20   get(method='POST', more='transfer-encoding : chunked\\r\\n') + hidden, get(method='POST', more=' content-length: 44\\r\\n') + hidden,\n\
                 \x20   get(more='x: y\\r\\n z: w\\r\\n') + hidden, get(more='x: y\\n' + 'z: w\\r\\n') + hidden, get(more='x: a\\rb\\r\\n') + hidden, get(more='x: a\\0b\\r\\n') + hidden,\n\
                 \x20   get().replace('\\r\\n', '\\n') + hidden, get().replace('HTTP/1.1', 'HTTP/1.1 x') + hidden, get().replace('GET ', 'GET\\t') + hidden, get('/open hidden') + hidden,\n\
                 \x20   get(more='host: evil.test.example\\r\\n') + hidden, get().replace('HTTP/1.1', 'HTTP/1.0').replace('host', 'x') + hidden]\n\
                 print(*[statuses(say(dial(), get('/open/first') + b)) for b in bad], sep='; ')\n\
                 body = get(method='POST', more='transfer-encoding: chunked\\r\\n')\n\
                 bad = ['5;x=y\\r\\nhello\\r\\n0\\r\\n\\r\\n', '5\\nhello\\n0\\n\\n', '0x5\\r\\nhello\\r\\n0\\r\\n\\r\\n', '5 \\r\\nhello\\r\\n0\\r\\n\\r\\n', '+5\\r\\nhello\\r\\n0\\r\\n\\r\\n', '5\\r\\nhelloXX0\\r\\n\\r\\n', \
                 'ffffffffffffffff5\\r\\nhello\\r\\n0\\r\\n\\r\\n', '5\\r\\nhello\\r\\n0\\r\\nhost: evil.test.example\\r\\n\\r\\n']\n\
                 print(*[statuses(say(dial(), body + b + hidden)) for b in bad], sep='; ')",
        outcome: "200 400; 200 400; 200 400; 200 400; 200 400; 200 400; 200 400; 200 400; 200 400; 200 400; 200 400; 200 400; 200 400; 200 400; 200 400; 200 400; 200 400; 200 400; 200 400\n\
                  400; 400; 400; 400; 400; 400; 400; 400",
        records: "connection.open read.test.example: malformed\n\
                  request.send read.test.example: over\n\
                  request.send read.test.example: refused, egress:malformed",
        heard: "asked for read.test.example, 27 times\n\
                read: GET /open/first, 19 times",
    },
    Reach {
        row: "N13",
        what: "a body that waits for 100 and becomes a request; answers in a pipeline; a request behind one that closes",
        script: "hidden = get('/open/hidden')\n\
                 tell(lambda: statuses(say(dial(), get(method='POST', more='expect: 100-continue\\r\\n', body=hidden) + get(host=EVIL, more='connection: close\\r\\n'))))\n\
                 tell(lambda: statuses(say(dial(), get(method='POST', more='expect: something\\r\\n') + get(host=EVIL, more='connection: close\\r\\n'))))\n\
                 tell(lambda: statuses(say(dial(), get('/open/1') + get('/open/2') + get('/no') + get('/open/3', host=EVIL) + get('/open/4', more='connection: close\\r\\n'))))\n\
                 tell(lambda: statuses(say(dial(), get('/open/5', more='connection: close\\r\\n') + get('/open/6'))))\n\
                 tell(lambda: statuses(say(dial(), get('/open/7', more='connection: host, authorization\\r\\n') + get('/open/8', more='connection: close\\r\\n'))))",
        outcome: "100 200 421\n\
                  417 421\n\
                  200 200 403 421 200\n\
                  200\n\
                  400",
        records: "connection.open read.test.example: over\n\
                  request.send read.test.example: over\n\
                  request.send read.test.example: refused, egress:request\n\
                  request.send read.test.example: refused, no rule",
        heard: "asked for read.test.example, 5 times\n\
                read: GET /open/1\n\
                read: GET /open/2\n\
                read: GET /open/4\n\
                read: GET /open/5\n\
                read: POST /open",
    },
    Reach {
        row: "N14",
        what: "going over to something else: CONNECT, Upgrade to WebSocket where it is not allowed, to h2c, to anything",
        script: "socket_ = 'connection: upgrade\\r\\nupgrade: websocket\\r\\nsec-websocket-version: 13\\r\\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n'\n\
                 tell(once(get('/open/ws', more=socket_)), once(get('*', method='CONNECT')), once(get(f'{NAME}:443', method='CONNECT')), once(get(more='connection: upgrade\\r\\nupgrade: raw\\r\\n')), \
                 once(get(more='connection: upgrade\\r\\nupgrade: tls/1.0\\r\\n')), once(get('/open/ws', more='upgrade: websocket\\r\\n')), once(get(method='TRACE')))\n\
                 tell(once(get('/open/c', more='connection: upgrade, http2-settings\\r\\nupgrade: h2c\\r\\nhttp2-settings: AAMAAABkAAQAAP__\\r\\n')))\n\
                 s = dial('ws.test.example'); tell(lambda: ask(s, get('/open/ws', host='ws.test.example', more=socket_)))\n\
                 say(s, get(host=EVIL)); tell(lambda: get(host=EVIL) in heard(s))",
        outcome: "403 405 501 400\n\
                  200\n\
                  101\n\
                  True",
        records: "connection.open read.test.example: over\n\
                  connection.open ws.test.example: over\n\
                  request.send read.test.example: over\n\
                  request.send read.test.example: refused, egress:request\n\
                  request.send read.test.example: refused, no rule\n\
                  request.send ws.test.example: over",
        heard: "asked for read.test.example, 8 times\n\
                asked for ws.test.example\n\
                read: GET /open/c\n\
                ws: GET /open/ws",
    },
    Reach {
        row: "N15",
        what: "the host of a request in spellings that two programs read differently; a path in such",
        script: "hosts = ['evil.test.example\\0.read.test.example', NAME + '.', NAME.upper(), f'{NAME}@{EVIL}', f'{EVIL}@{NAME}', NAME + '%2e' + EVIL, '[::ffff:5db8:d842]', ADDRESS, '1572395074', '0x5db8d842', \
                 'r\\xe9ad.test.example', NAME + '\\u00ad'.encode().decode('latin-1'), 'a.' * 127 + 'ab', NAME + ':443', NAME + ':080', NAME + ':', f'{NAME}, {EVIL}', f'{NAME} {EVIL}', f'{NAME}/{EVIL}', f'{NAME}#{EVIL}', f'{NAME}\\\\{EVIL}', f'[{NAME}]']\n\
                 print(*[once(get(host=h))() for h in hosts])\n\
                 paths = ['/closed', '/open/../closed', '/open/%2e%2e/closed', '/open/..%2fclosed', '/open/.%2e/closed', '/open/..\\\\closed', '/open/..;/closed', '//open', '/open%00/../closed', '/%6fpen', '/open/%252e%252e/closed', \
                 '/OPEN', '/opened', '/open\\x1b[2J', '/open/%0a%1b[31m{\"x\":1}', '/open?../closed', '/open#/../closed', 'open', '/./open', '/open/\\xe9']\n\
                 print(*[once(get(p))() for p in paths])",
        outcome: "400 400 200 400 400 400 421 421 421 421 400 400 400 421 400 400 400 400 400 400 400 400\n\
                  403 403 403 403 403 403 403 403 403 200 200 403 403 400 403 200 400 ended 200 400",
        records: "connection.open read.test.example: malformed\n\
                  connection.open read.test.example: over\n\
                  connection.open read.test.example: refused, no rule\n\
                  request.send read.test.example: over\n\
                  request.send read.test.example: refused, egress:malformed\n\
                  request.send read.test.example: refused, egress:request\n\
                  request.send read.test.example: refused, no rule",
        heard: "READ: GET /open\n\
                asked for read.test.example, 41 times\n\
                read: GET /%6fpen\n\
                read: GET /open, 2 times\n\
                read: GET /open/%252e%252e/closed",
    },
    Reach {
        row: "N11",
        what: "a redirect from an allowed host to one that is refused",
        script: "import urllib.request as u, urllib.error\n\
                 def follow(url):\n\
                 \x20   try:\n\
                 \x20       return u.urlopen(url).read().decode()\n\
                 \x20   except urllib.error.HTTPError as error:\n\
                 \x20       return error.code\n\
                 tell(lambda: follow('http://read.test.example/open/redirect'), lambda: follow('https://read.test.example/open/redirect'))",
        outcome: "403",
        records: "connection.open evil.test.example: refused, no rule\n\
                  connection.open read.test.example: over\n\
                  request.send read.test.example: over",
        heard: "asked for read.test.example, 2 times\n\
                read: GET /open/redirect, 2 times",
    },
    Reach {
        row: "N28",
        what: "carrying away by an allowed service: methods, paths and hosts that its rule does not name",
        script: "def to(host, *given, **named):\n\
                 \x20   return lambda: ask(tls(host), get(*given, host=host, **named))\n\
                 tell(to(NAME, '/open', method='PUT', body='x'), to(NAME, '/open', method='DELETE'), to(NAME, '/bucket/key?X-Amz-Signature=1', method='POST', body='x'), \
                 to('git.test.example', '/api/gists', method='POST', body='x'), to('git.test.example', '/team/app/issues', method='GET'), to('git.test.example', '/team/app/archive/main.zip'))\n\
                 tell(to('git.test.example', '/api/gists'))",
        outcome: "403\n\
                  200",
        records: "connection.open git.test.example: over\n\
                  connection.open read.test.example: over\n\
                  request.send git.test.example: over\n\
                  request.send git.test.example: refused, no rule\n\
                  request.send read.test.example: refused, no rule",
        heard: "asked for git.test.example, 4 times\n\
                asked for read.test.example, 3 times\n\
                git: GET /api/gists",
    },
    Reach {
        row: "N29",
        what: "heads that drip, that never end, that are too large; a body that drips; a name too long; who comes beside them is served",
        script: "drip = dial(); say(drip, 'GET /open HTTP/1.1\\r\\n')\n\
                 def dripping():\n\
                 \x20   for n in range(200):\n\
                 \x20       say(drip, 'x'); time.sleep(0.05)\n\
                 threading.Thread(target=dripping, daemon=True).start()\n\
                 tell(once(get(more='x: ' + 'y' * 70000 + '\\r\\n')), once(get(more='x: y\\r\\n' * 101)), once(get('/open/' + 'a' * 70000)), once(get(method='G' * 40)))\n\
                 tell(once(get()), lambda: statuses(drip))",
        outcome: "431 ended\n\
                  200 408",
        records: "connection.open read.test.example: malformed\n\
                  connection.open read.test.example: over\n\
                  connection.open read.test.example: refused, no rule\n\
                  request.send read.test.example: over\n\
                  request.send read.test.example: refused, egress:malformed",
        heard: "asked for read.test.example, 5 times\n\
                read: GET /open",
    },
];
