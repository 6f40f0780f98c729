// Asks the site at the base URL in argv[2] for what Node.js can ask for, by
// fetch (undici), node:http, node:http2 and ws, and prints what came: a line
// of JSON for each exchange.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import WebSocket from 'ws';

const base = process.argv[2];
const url = new URL(base);
const secure = url.protocol === 'https:';
const deadline = () => AbortSignal.timeout(20_000);

const short = (text) => (text.length <= 20_000 ? text
  : `${text.length} characters ${createHash('sha256').update(text).digest('hex')}`);
const show = (exchange, what) => console.log(JSON.stringify({ exchange, ...what }));
const sorted = (headers) => [...headers].map(([k, v]) => [k.toLowerCase(), v]).sort();

// --- fetch ---

async function ask(exchange, path, init = {}) {
  const answer = await fetch(base + path, { signal: deadline(), ...init });
  show(exchange, { status: answer.status, redirected: answer.redirected, headers: sorted(answer.headers), body: short(await answer.text()) });
}

async function* pieces() {
  for (let i = 0; i < 20; i += 1) yield Buffer.alloc(10_000, String(i % 10));
}

const form = new FormData();
form.append('a', '1');

await ask('fetch', '/echo/');
await ask('fetch odd path', '/echo/a//b%2F..%00;d?x=1;y=%zz&&');
await ask('fetch post', '/echo/', { method: 'POST', body: 'text' });
await ask('fetch post params', '/echo/', { method: 'POST', body: new URLSearchParams({ a: '1 2' }) });
await ask('fetch put stream', '/echo/', { method: 'PUT', body: pieces(), duplex: 'half' });
await ask('fetch delete', '/echo/', { method: 'DELETE' });
await ask('fetch head', '/file', { method: 'HEAD' });
await ask('fetch file', '/file');
await ask('fetch range', '/file', { headers: { Range: 'bytes=0-9' } });
await ask('fetch not modified', '/file', { headers: { 'If-None-Match': '"v1"' } });
await ask('fetch gzip', '/gzip');
await ask('fetch chunks', '/chunks');
await ask('fetch redirect', '/redirect');
await ask('fetch redirect by hand', '/redirect', { redirect: 'manual' });
for (const status of [201, 204, 205, 304, 401, 404, 503]) await ask(`fetch ${status}`, `/status/${status}`);

try {
  const answer = await fetch(`${base}/broken`, { signal: deadline() });
  show('fetch broken', { body: await answer.text() });
} catch (error) {
  show('fetch broken', { error: error.name });
}

{
  const abort = new AbortController();
  const answer = await fetch(`${base}/endless`, { signal: abort.signal });
  const { value } = await answer.body.getReader().read();
  abort.abort();
  show('fetch aborted', { first: Buffer.from(value).toString().slice(0, 4), aborted: await (await fetch(`${base}/left`, { signal: deadline() })).text() });
}

// --- node:http ---

const agent = new (secure ? https : http).Agent({ keepAlive: true, maxSockets: 1 });

async function askHTTP(exchange, path, { body, ...options } = {}) {
  const request = (secure ? https : http).request(base + path, { agent, signal: deadline(), ...options });
  const interim = [];
  request.on('continue', () => interim.push([100]));
  request.on('information', ({ statusCode, headers }) => interim.push([statusCode, headers]));
  if (options.headers?.Expect) {
    request.flushHeaders();
    await once(request, 'continue', { signal: deadline() });
  }
  request.end(body);
  const [answer] = await once(request, 'response', { signal: deadline() });
  const got = await answer.setEncoding('utf8').toArray();
  show(exchange, {
    status: answer.statusCode, reason: answer.statusMessage, headers: sorted(Object.entries(answer.headers)), interim,
    reused: request.reusedSocket, body: short(got.join('')), trailers: answer.trailers, complete: answer.complete,
  });
}

await askHTTP('http', '/echo/');
await askHTTP('http again', '/echo/');
await askHTTP('http post', '/echo/', { method: 'POST', body: 'x'.repeat(100_000) });
await askHTTP('http expect', '/echo/', { method: 'PUT', body: 'expected', headers: { Expect: '100-continue' } });
await askHTTP('http trailers', '/trailers');
await askHTTP('http interim', '/hints');
await askHTTP('http search', '/echo/', { method: 'SEARCH', body: 'q' });
agent.destroy();

{
  const request = (secure ? https : http).request(`${base}/echo/`, {
    method: 'POST', headers: { Trailer: 'X-Sum', 'Transfer-Encoding': 'chunked' }, signal: deadline(), agent: false,
  });
  request.write('body');
  request.addTrailers({ 'X-Sum': '4' });
  request.end();
  const [answer] = await once(request, 'response', { signal: deadline() });
  show('http trailers of the request', { body: (await answer.setEncoding('utf8').toArray()).join('') });
}

// --- node:http2 ---

const session = http2.connect(url.origin);

async function askHTTP2(exchange, path, { method = 'GET', body, headers = {} } = {}) {
  const stream = session.request({ ':method': method, ':path': url.pathname + path, ...headers }, { signal: deadline() });
  const interim = [];
  const trailers = {};
  stream.on('headers', (h) => interim.push([h[':status'], h.link]));
  stream.on('trailers', (h) => Object.assign(trailers, h));
  stream.end(body);
  const [head] = await once(stream, 'response', { signal: deadline() });
  const got = await stream.setEncoding('utf8').toArray();
  show(exchange, { headers: sorted(Object.entries(head)), interim, trailers, body: short(got.join('')) });
}

await askHTTP2('http2', '/echo/');
await askHTTP2('http2 post', '/echo/', { method: 'POST', body: 'x'.repeat(100_000) });
await askHTTP2('http2 cookies', '/echo/', { headers: { cookie: 'a=1; b=2; c=3' } });
await askHTTP2('http2 trailers', '/trailers');
await askHTTP2('http2 interim', '/hints');
await askHTTP2('http2 head', '/file', { method: 'HEAD' });
await askHTTP2('http2 401', '/status/401');
await Promise.all(Array.from({ length: 100 }, async (_, i) => {
  const stream = session.request({ ':path': `${url.pathname}/echo/${i}` }, { signal: deadline() });
  const got = await stream.setEncoding('utf8').toArray();
  if (JSON.parse(got.join('')).Target !== `/echo/${i}`) throw new Error(`stream ${i} got ${got}`);
}));
show('http2 in parallel', { streams: 100 });
{
  const stream = session.request({ ':path': `${url.pathname}/broken` }, { signal: deadline() });
  stream.resume();
  const [error] = await once(stream, 'error').catch((e) => [e]);
  show('http2 broken', { code: error.code });
}
session.close();

// --- ws ---

const wsURL = base.replace(/^http/, 'ws');

async function open(path, ...options) {
  const socket = new WebSocket(wsURL + path, ...options);
  let head;
  socket.on('upgrade', (answer) => { head = answer.headers; });
  await once(socket, 'open', { signal: deadline() });
  return [socket, head];
}

async function closed(socket) {
  const [code, reason] = await once(socket, 'close', { signal: deadline() });
  return { code, reason: reason.toString() };
}

async function echoed(socket, message) {
  socket.send(message);
  const [data, binary] = await once(socket, 'message', { signal: deadline() });
  return { same: Buffer.compare(Buffer.from(data), Buffer.from(message)) === 0, binary };
}

for (const perMessageDeflate of [false, true]) {
  const [socket, head] = await open('/ws', ['chat.v1', 'chat.v9'], { perMessageDeflate });
  delete head['sec-websocket-accept'];
  show(`ws, deflate ${perMessageDeflate}`, { protocol: socket.protocol, extensions: socket.extensions, head: sorted(Object.entries(head)) });
  for (const size of [0, 1, 125, 126, 65_535, 65_536, 1 << 20]) {
    show(`ws ${size}`, await echoed(socket, Buffer.alloc(size, 7)));
    show(`ws text ${size}`, await echoed(socket, 'ä'.repeat(size / 2)));
  }
  socket.ping('are you there');
  const [pong] = await Promise.all([once(socket, 'pong', { signal: deadline() }), echoed(socket, 'so that the other end reads')]);
  show('ws pong', { data: pong[0].toString() });
  socket.close(1000, 'enough');
  show('ws close', await closed(socket));
}
for (const code of [1000, 1001, 1011, 3000, 4000, 4999]) {
  const [socket] = await open('/ws');
  socket.send(`close ${code} because: ü`);
  show(`ws closed ${code}`, await closed(socket));
}
{
  const [socket] = await open('/ws');
  socket.send('drop it');
  socket.on('error', () => {});
  show('ws dropped', await closed(socket));
}
{
  const socket = new WebSocket(`${wsURL}/ws?refuse`);
  socket.on('error', () => {});
  const [, answer] = await once(socket, 'unexpected-response', { signal: deadline() });
  show('ws refused', { status: answer.statusCode, headers: sorted(Object.entries(answer.headers)), body: (await answer.setEncoding('utf8').toArray()).join('') });
  socket.terminate();
}
process.exit(0);
