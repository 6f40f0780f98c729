// A target written for Node.js. It prints the port that it listens on.
import { EventEmitter, once } from 'node:events';
import http from 'node:http';
import { WebSocketServer } from 'ws';

const ticks = new EventEmitter();
let left = false;
ticks.once('left', () => { left = true; });

const server = http.createServer(async (request, response) => {
  response.sendDate = false;
  switch (new URL(request.url, 'http://x').pathname) {
    case '/chunks':
      for (let i = 0; i < 5; i += 1) {
        response.write(`chunk ${i}\n`);
        await new Promise(setImmediate);
      }
      response.end();
      break;
    case '/hints':
      response.writeEarlyHints({ link: ['</a.css>; rel=preload', '</b.js>; rel=preload'], 'x-hint': 'first' });
      response.writeEarlyHints({ link: '</c.css>; rel=preload' });
      response.writeProcessing();
      response.end('hinted');
      break;
    case '/trailers':
      response.writeHead(200, { Trailer: 'X-Sum' });
      response.write('body');
      response.addTrailers({ 'X-Sum': '4', 'X-Late': 'not announced' });
      response.end();
      break;
    case '/early':
      // Answers an upload before it is here.
      response.writeHead(413, { Connection: 'close' });
      response.end('too large');
      break;
    case '/raw':
      // Odd, but Node.js sends it.
      response.writeHead(299, 'Odd', ['X-B', '2', 'X-A', '1', 'X-A', '1', 'X-Bits', 'ä', 'Set-Cookie', 'a=1', 'Set-Cookie', 'b=2']);
      response.end();
      break;
    case '/stream':
      // One line for each request for /tick.
      ticks.on('tick', () => response.write('tick\n'));
      response.flushHeaders();
      request.on('close', () => ticks.emit('left'));
      break;
    case '/tick':
      ticks.emit('tick');
      response.end();
      break;
    case '/left':
      // Answers when the viewer of the stream has left.
      if (!left) await once(ticks, 'left');
      response.end('left');
      break;
    case '/small':
      response.setHeader('Content-Length', 5);
      response.end('small');
      break;
    default: {
      const body = Buffer.concat(await request.toArray());
      const headers = [];
      for (let i = 0; i < request.rawHeaders.length; i += 2) {
        const name = request.rawHeaders[i].toLowerCase();
        if (!/^(connection|cdn-loop|forwarded|x-forwarded-.*|x-request-id|x-websocktunnel-.*)$/.test(name)) headers.push([name, request.rawHeaders[i + 1]]);
      }
      headers.sort(([a], [b]) => (a < b ? -1 : Number(a > b)));
      response.end(JSON.stringify({
        method: request.method, url: request.url, headers, body: body.toString('latin1'), trailers: request.trailers,
      }, null, 1));
    }
  }
});
// Idle connections are closed at once, so that closing them and the next
// request often meet.
server.keepAliveTimeout = Number(process.argv[2]);

const echo = new WebSocketServer({
  server,
  path: '/ws',
  perMessageDeflate: { threshold: 0 },
  handleProtocols: (offered) => [...offered].pop(),
  verifyClient: ({ req }, done) => (req.headers['x-refuse'] ? done(false, 403, 'no', { 'X-Why': 'asked to' }) : done(true)),
});
echo.on('headers', (headers) => headers.push('Set-Cookie: ws=1', 'X-Extra: yes'));
echo.on('connection', (socket) => {
  socket.on('error', () => {});
  socket.on('message', (data, binary) => {
    const words = /^close (\d+) (.*)$/.exec(binary ? '' : data.toString());
    if (words) socket.close(Number(words[1]), words[2]);
    else socket.send(data, { binary });
  });
  socket.on('close', (code, reason) => console.log(`closed ${code} ${reason}`));
});

server.listen(0, '127.0.0.1', () => console.log(`listening on ${server.address().port}`));
