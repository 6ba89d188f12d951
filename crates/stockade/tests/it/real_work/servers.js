// Servers of the world outside, in a network namespace of their own: pages by host and path over HTTP/2 and HTTP/1.1 with TLS (443) and in the
// clear (80), git repositories behind the real `git http-backend`, and a WebSocket that says back. What was asked for is written down.
'use strict';
const { spawn } = require('child_process');
const crypto = require('crypto');
const { EventEmitter } = require('events');
const fs = require('fs');
const http = require('http');
const http2 = require('http2');

const [folder, address] = process.argv.slice(2);

function placed(request) {
  const host = (request.headers[':authority'] || request.headers.host || '').toLowerCase();
  const [path, query] = request.url.split('?');
  fs.appendFileSync(`${folder}/seen`, JSON.stringify({ host, method: request.method, path, http: request.httpVersion }) + '\n');
  return { host, path, query: query || '' };
}

function answer(request, response) {
  const { host, path, query } = placed(request);
  if (/\.git\/|\.git$/.test(path)) return git(request, response, path, query);
  const page = JSON.parse(fs.readFileSync(`${folder}/pages.json`))[`${host}${path}`];
  request.resume();
  if (path === '/held') return talks.once('ended', () => response.end());
  if (!page || !['GET', 'HEAD'].includes(request.method)) {
    response.writeHead(page ? 405 : 404, { 'content-type': 'text/plain' });
    return response.end(`nothing for ${request.method} ${host}${path}\n`);
  }
  if (page.to) {
    response.writeHead(302, { location: page.to });
    return response.end();
  }
  const body = page.file ? fs.readFileSync(`${folder}/${page.file}`) : Buffer.from(page.text);
  response.writeHead(200, { 'content-type': page.type, 'content-length': body.length });
  response.end(request.method === 'HEAD' ? undefined : body);
}

// RFC 3875.
function git(request, response, path, query) {
  const { headers } = request;
  const environment = {
    PATH: process.env.PATH, GIT_PROJECT_ROOT: `${folder}/repositories`, GIT_HTTP_EXPORT_ALL: '1', GIT_CONFIG_NOSYSTEM: '1', HOME: folder,
    REQUEST_METHOD: request.method, PATH_INFO: path, QUERY_STRING: query, CONTENT_TYPE: headers['content-type'] || '',
    HTTP_CONTENT_ENCODING: headers['content-encoding'] || '', GIT_PROTOCOL: headers['git-protocol'] || '', REMOTE_USER: 'somebody',
  };
  const child = spawn('git', ['http-backend'], { env: environment, stdio: ['pipe', 'pipe', 'inherit'] });
  request.pipe(child.stdin);
  child.stdin.on('error', () => {});
  let head = Buffer.alloc(0);
  let begun = false;
  child.stdout.on('data', (piece) => {
    if (begun) return response.write(piece);
    head = Buffer.concat([head, piece]);
    const end = head.indexOf('\r\n\r\n');
    if (end < 0) return undefined;
    let status = 200;
    for (const line of head.subarray(0, end).toString().split('\r\n')) {
      const [, name, value] = /^([^:]*): *(.*)$/.exec(line);
      if (name.toLowerCase() === 'status') status = parseInt(value, 10);
      else response.setHeader(name, value);
    }
    response.writeHead(status);
    begun = true;
    return response.write(head.subarray(end + 4));
  });
  child.stdout.on('end', () => response.end());
}

// RFC 6455: short frames of text, said back. Who asks for `/held` waits until somebody has ended a talk.
const talks = new EventEmitter();

function socket(request, stream) {
  placed(request);
  const key = request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
  const accept = crypto.createHash('sha1').update(key).digest('base64');
  stream.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  let held = Buffer.alloc(0);
  stream.on('error', () => {});
  stream.on('data', (piece) => {
    held = Buffer.concat([held, piece]);
    while (held.length >= 6 && held.length >= 6 + (held[1] & 127)) {
      const length = held[1] & 127;
      const mask = held.subarray(2, 6);
      const text = held.subarray(6, 6 + length).map((byte, at) => byte ^ mask[at % 4]);
      const kind = held[0] & 15;
      held = held.subarray(6 + length);
      if (kind === 8) {
        talks.emit('ended');
        return stream.end(Buffer.from([0x88, 0]));
      }
      const said = Buffer.concat([Buffer.from('said '), text]);
      stream.write(Buffer.concat([Buffer.from([0x81, said.length]), said]));
    }
    return undefined;
  });
}

const tls = http2.createSecureServer(
  { allowHTTP1: true, key: fs.readFileSync(`${folder}/server.key`), cert: fs.readFileSync(`${folder}/server.pem`) }, answer);
const clear = http.createServer(answer);
tls.on('upgrade', socket);
// Whoever made us is gone.
process.stdin.on('end', () => process.exit(0)).resume();
tls.listen(443, address, () => clear.listen(80, address, () => console.log('ready')));
