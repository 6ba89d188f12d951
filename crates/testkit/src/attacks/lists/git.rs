//! git: pushes to other references and repositories, lies in packet lines, packs that explode.

use super::Reach;

pub(super) const LIST: &[Reach] = &[Reach {
    row: "N28",
    what: "git pushes to other references and repositories, by force, deleting, with lies in the packet lines, with packs that explode",
    script: "import hashlib, zlib\n\
             HOST, ZERO, ONE = 'git.test.example', '0' * 40, '1' * 40\n\
             def packet(text):\n\
             \x20   text = text if isinstance(text, bytes) else text.encode()\n\
             \x20   return f'{len(text) + 4:04x}'.encode() + text\n\
             def pack(*objects, count=None):\n\
             \x20   raw = b'PACK' + struct.pack('>II', 2, len(objects) if count is None else count) + b''.join(objects)\n\
             \x20   return raw + hashlib.sha1(raw).digest()\n\
             def thing(kind, body, length=None):\n\
             \x20   n = len(body) if length is None else length; first = kind << 4 | n & 15; n >>= 4; out = b''\n\
             \x20   while n:\n\
             \x20       out += bytes([first | 128]); first = n & 127; n >>= 7\n\
             \x20   return out + bytes([first]) + zlib.compress(body)\n\
             def push(*lines, rest=b'', repository='team/app', more=''):\n\
             \x20   body = b''.join(lines) + b'0000' + rest\n\
             \x20   text = f'POST /{repository}.git/git-receive-pack HTTP/1.1\\r\\nhost: {HOST}\\r\\ncontent-type: application/x-git-receive-pack-request\\r\\n{more}content-length: {len(body)}\\r\\n\\r\\n'.encode()\n\
             \x20   status, said = answer(say(tls(HOST), text + body))\n\
             \x20   return status + (' through' if re.search('[0-9a-f]{4}ok refs', said) else ' refused' if re.search('[0-9a-f]{4}ng ', said) else '')\n\
             def to(reference, old=ZERO, new=ONE, caps='\\0report-status'):\n\
             \x20   return packet(f'{old} {new} {reference}{caps}\\n')\n\
             empty = pack()\n\
             tell(*[lambda r=r: push(to(r), rest=empty) for r in ('refs/heads/main', 'refs/tags/one', 'refs/heads/stockade/../main', 'refs/pull/1/head', 'HEAD', 'refs/heads/Stockade/x', 'refs/heads/main\\0x', 'refs/heads/stockade/a b')], \
             lambda: push(to('refs/heads/stockade/x'), to('refs/heads/main', caps=''), rest=empty), lambda: push(to('refs/heads/stockade/x', ONE, ZERO)), lambda: push(to('refs/heads/stockade/x', ONE, '2' * 40), rest=empty))\n\
             tell(*[lambda r=r: push(to('refs/heads/stockade/x'), rest=empty, repository=r) for r in ('other/app', 'team/app/../../other/app', 'team//app', 'team/app2', 'team/%61pp')])\n\
             tell(lambda: push(b'0003' + to('refs/heads/main')), lambda: push(b'fff0' + to('refs/heads/stockade/x')), lambda: push(b'00zz'), lambda: push(packet('push-cert\\0x\\n')), lambda: push(packet('shallow ' + ONE), to('refs/heads/main')), \
             lambda: push(b'-004' + to('refs/heads/stockade/x')), lambda: push(to('refs/heads/stockade/x')[:-9]))\n\
             tell(lambda: push(to('refs/heads/stockade/x'), rest=pack(thing(3, bytes(70 << 20)))), lambda: push(to('refs/heads/stockade/x'), rest=pack(thing(3, b'x', 1 << 40))), lambda: push(to('refs/heads/stockade/x'), rest=pack(count=1 << 31)), \
             lambda: push(to('refs/heads/stockade/x'), rest=pack(thing(3, b'x'))[:-1] + b'!'), lambda: push(to('refs/heads/stockade/x'), rest=pack(thing(6, b'x'))), lambda: push(to('refs/heads/stockade/x'), rest=b'PACKED'))\n\
             bomb = gzip.compress(bytes(64 << 20)).decode('latin-1')\n\
             tell(lambda: ask(tls(HOST), get('/team/app.git/git-receive-pack', HOST, 'content-type: application/x-git-receive-pack-request\\r\\ncontent-encoding: gzip\\r\\n', 'POST', bomb)))\n\
             tell(lambda: ask(tls(HOST), get('/other/app.git/info/refs?service=git-receive-pack', HOST)), lambda: ask(tls(HOST), get('/other/app.git/info/refs?service=git-upload-pack', HOST)))\n\
             tell(lambda: ask(tls(HOST), get('/team/app.git/info/refs?service=git-upload-pack', HOST)))",
    outcome: "200 refused 400\n\
              200 refused 403\n\
              400 200 refused\n\
              200 refused\n\
              400\n\
              403\n\
              200",
    records: "connection.open git.test.example: over\n\
              git.fetch git.test.example/other/app: refused, no rule\n\
              git.fetch git.test.example/team/app: over\n\
              git.push git.test.example/other/app: refused, no rule\n\
              git.push git.test.example/team/app2: refused, no rule\n\
              git.push git.test.example/team/app: refused, egress:git\n\
              git.push git.test.example/team/app: refused, no rule\n\
              request.send git.test.example: refused, egress:git",
    heard: "asked for git.test.example, 33 times\n\
            git: GET /team/app.git/info/refs",
}];
