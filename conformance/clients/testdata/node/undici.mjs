// Asks the site at the base URL in argv[2] for what the npm package undici can
// ask for, by fetch, request, stream, pipeline, dispatch and WebSocket, and
// prints what came: a line of JSON for each exchange. The certificate that
// argv[3] names is believed.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Readable, Writable } from 'node:stream';
import { Agent, FormData, WebSocket, fetch, pipeline, request, stream } from 'undici';

const [base, caFile] = process.argv.slice(2);
const deadline = () => AbortSignal.timeout(20_000);
const ca = readFileSync(caFile);

const short = (text) => (text.length <= 20_000 ? text
  : `${text.length} characters ${createHash('sha256').update(text).digest('hex')}`);
const show = (exchange, what) => console.log(JSON.stringify({ exchange, ...what }));
const sorted = (headers) => Object.entries(headers).map(([k, v]) => [k.toLowerCase(), v]).sort();

async function* pieces() {
  for (let i = 0; i < 20; i += 1) yield Buffer.alloc(10_000, String(i % 10));
}

// Over TLS, with HTTP/2 as well.
for (const allowH2 of base.startsWith('https:') ? [false, true] : [false]) {
  const dispatcher = new Agent({ allowH2, pipelining: 1, connect: { ca } });
  const version = allowH2 ? ', HTTP/2' : '';

  // --- fetch ---
  const ask = async (exchange, path, init = {}) => {
    const answer = await fetch(base + path, { dispatcher, signal: deadline(), ...init });
    show(`fetch ${exchange}${version}`, {
      status: answer.status, redirected: answer.redirected, headers: sorted(Object.fromEntries(answer.headers)),
      cookies: answer.headers.getSetCookie(), body: short(await answer.text()),
    });
  };
  const form = new FormData();
  form.append('a', '1');
  await ask('get', '/echo/');
  await ask('odd path', '/echo/a//b%2F..%00;d?x=1;y=%zz&&');
  await ask('post', '/echo/', { method: 'POST', body: 'text' });
  await ask('post stream', '/echo/', { method: 'POST', body: Readable.toWeb(Readable.from(pieces())), duplex: 'half' });
  await ask('head', '/file', { method: 'HEAD' });
  await ask('file', '/file');
  await ask('range', '/file', { headers: { Range: 'bytes=0-9' } });
  await ask('gzip', '/gzip');
  await ask('redirect', '/redirect');
  await ask('cookies', '/cookies', { headers: { Cookie: 'a=1; b=2' } });
  for (const status of [204, 304, 401, 404, 503]) await ask(status, `/status/${status}`);
  {
    const answer = await fetch(`${base}/echo/`, { dispatcher, signal: deadline(), method: 'POST', body: form });
    show(`fetch form${version}`, { status: answer.status, bytes: JSON.parse(await answer.text()).Bytes > 0 });
  }
  try {
    const answer = await fetch(`${base}/broken`, { dispatcher, signal: deadline() });
    show(`fetch broken${version}`, { body: await answer.text() });
  } catch (error) {
    show(`fetch broken${version}`, { error: error.name });
  }

  // --- request ---
  const req = async (exchange, path, options = {}) => {
    const interim = [];
    const { statusCode, headers, body, trailers } = await request(base + path, {
      dispatcher, signal: deadline(), ...options, onInfo: (i) => interim.push([i.statusCode, i.headers]),
    });
    show(`request ${exchange}${version}`, { status: statusCode, headers: sorted(headers), interim, body: short(await body.text()), trailers });
  };
  await req('get', '/echo/', { query: { a: '1 2', b: 'ä' } });
  await req('put', '/echo/', { method: 'PUT', body: 'x'.repeat(100_000) });
  await req('post stream', '/echo/', { method: 'POST', body: Readable.from(pieces()) });
  await req('delete', '/echo/', { method: 'DELETE' });
  await req('head', '/file', { method: 'HEAD' });
  await req('headers', '/echo/', { headers: { 'X-A': ['1', '2'], 'X-Empty': '', Cookie: 'a=1; b=2' } });
  await req('chunks', '/chunks');
  if (!allowH2) { // of which undici 6 knows nothing over HTTP/2
    await req('trailers', '/trailers');
    await req('interim', '/hints');
  }
  await req('401', '/status/401');

  // --- stream and pipeline ---
  {
    const got = [];
    let head;
    await stream(`${base}/file`, { dispatcher, method: 'GET', signal: deadline() }, ({ statusCode, headers }) => {
      head = { status: statusCode, headers: sorted(headers) };
      return new Writable({ write(chunk, _, done) { got.push(chunk); done(); } });
    });
    show(`stream${version}`, { ...head, body: short(Buffer.concat(got).toString()) });
  }
  {
    let status;
    const duplex = pipeline(`${base}/echo/`, { dispatcher, method: 'POST', signal: deadline() }, ({ statusCode, body }) => { status = statusCode; return body; });
    duplex.end('through a pipeline');
    const body = (await duplex.setEncoding('utf8').toArray()).join('');
    show(`pipeline${version}`, { status, body });
  }
  await Promise.all(Array.from({ length: 50 }, async (_, i) => {
    const { body } = await request(`${base}/echo/${i}`, { dispatcher, signal: deadline() });
    const { Target } = await body.json();
    if (Target !== `/echo/${i}`) throw new Error(`request ${i} got ${Target}`);
  }));
  show(`request in parallel${version}`, { requests: 50 });
  {
    const abort = new AbortController();
    const { body } = await request(`${base}/endless${allowH2 ? '?again' : ''}`, { dispatcher, signal: abort.signal });
    body.on('error', () => {});
    const [first] = await once(body, 'data', { signal: deadline() });
    abort.abort();
    const answer = await request(`${base}/left`, { dispatcher, signal: deadline() });
    show(`request aborted${version}`, { first: first.toString().slice(0, 4), left: await answer.body.text() });
  }
  await dispatcher.destroy();
}

// --- WebSocket ---

const dispatcher = new Agent({ connect: { ca } });
const connect = (path, protocols = []) => {
  const socket = new WebSocket(base.replace(/^http/, 'ws') + path, { protocols, dispatcher });
  socket.binaryType = 'arraybuffer';
  return socket;
};
const open = async (...args) => {
  const socket = connect(...args);
  await once(socket, 'open', { signal: deadline() });
  return socket;
};
const closed = async (socket) => {
  const [{ code, reason, wasClean }] = await once(socket, 'close', { signal: deadline() });
  return { code, reason, wasClean };
};

{
  const socket = await open('/ws', ['chat.v9', 'chat.v1']);
  show('WebSocket', { protocol: socket.protocol, extensions: socket.extensions });
  for (const size of [0, 1, 125, 126, 65_535, 65_536, 1 << 20]) {
    for (const sent of [Buffer.alloc(size, 7), 'ä'.repeat(size / 2)]) {
      socket.send(sent);
      const [{ data }] = await once(socket, 'message', { signal: deadline() });
      show(`WebSocket echo of ${size} bytes, ${typeof sent === 'string' ? 'text' : 'binary'}`, {
        same: typeof sent === 'string' ? data === sent : Buffer.compare(Buffer.from(data), sent) === 0,
      });
    }
  }
  const end = closed(socket);
  socket.close(3000, 'enough');
  show('WebSocket closed by the viewer', await end);
}
for (const code of [1000, 1001, 1011, 3000, 4999]) {
  const socket = await open('/ws');
  socket.send(`close ${code} because: ü`);
  show(`WebSocket closed with ${code}`, await closed(socket));
}
// undici 6 tells of these by an error alone, without a tunnel too.
const failed = async (socket) => {
  const [{ type }] = await Promise.race(['close', 'error'].map((type) => once(socket, type, { signal: deadline() })));
  return { type };
};
{
  const socket = await open('/ws');
  socket.send('drop it');
  show('WebSocket dropped', await failed(socket));
}
show('WebSocket refused', await failed(connect('/ws?refuse')));
process.exit(0);
