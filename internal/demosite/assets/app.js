// The demo page. Every URL here is relative, so that the <base> of the page
// decides under which path prefix all of it works.
'use strict';

const MB = 1e6;

const find = (id) => document.querySelector(`[data-testid="${id}"]`);
const show = (id, text) => { find(id).textContent = text; };
const onClick = (action, f) => {
  document.querySelector(`[data-action="${action}"]`).addEventListener('click', f);
};

// setState says how a panel is doing: to the eye, to a screen reader, and to a
// test (data-state is idle, busy, ok or error).
function setState(panel, state, text) {
  const section = find(panel);
  const badge = section.querySelector('[data-badge]');
  section.dataset.state = state;
  if (badge.textContent !== text) badge.textContent = text;
}

const formatMs = (ms) => `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
const formatSize = (bytes) => (bytes < MB / 10 ? `${bytes} B` : `${(bytes / MB).toFixed(1)} MB`);
const formatSpeed = (bytes, ms) => (ms > 0 ? `${(bytes / MB / (ms / 1000)).toFixed(1)} MB/s` : '–');

// --- request ---

const ADDED = /^(x-forwarded-|forwarded$|x-websocktunnel-)/i;

async function askEcho() {
  setState('echo', 'busy', 'asking');
  try {
    const start = performance.now();
    const response = await fetch('echo');
    if (!response.ok) throw new Error(`status ${response.status}`);
    const request = await response.json();
    show('echo-method', request.method);
    show('echo-target', `${request.target} ${request.proto}`);
    const rows = Object.entries(request.headers)
      .flatMap(([name, values]) => values.map((value) => [name, value]))
      .sort(([a], [b]) => ADDED.test(b) - ADDED.test(a) || a.localeCompare(b));
    rows.unshift(['Host', request.host]);
    find('echo-headers').replaceChildren(...rows.map(([name, value]) => {
      const row = document.createElement('tr');
      const head = document.createElement('th');
      const cell = document.createElement('td');
      head.scope = 'row';
      head.textContent = name;
      cell.textContent = value;
      row.classList.toggle('added', ADDED.test(name));
      row.append(head, cell);
      return row;
    }));
    setState('echo', 'ok', `ok, ${formatMs(performance.now() - start)}`);
  } catch (error) {
    setState('echo', 'error', `failed: ${error.message}`);
  }
}

// --- websocket ---

const PING_INTERVAL = 500;
const SPARK_POINTS = 60;
const BIG_MESSAGE = 1 << 20;

const trips = { count: 0, sum: 0, min: Infinity, recent: [] };

function recordTrip(ms) {
  trips.count += 1;
  trips.sum += ms;
  trips.min = Math.min(trips.min, ms);
  trips.recent = [...trips.recent, ms].slice(-SPARK_POINTS);
  show('websocket-last', formatMs(ms));
  show('websocket-min', formatMs(trips.min));
  show('websocket-avg', formatMs(trips.sum / trips.count));
  show('websocket-count', trips.count);
  drawSpark(trips.recent);
}

function drawSpark(values) {
  const [width, height] = [240, 48];
  const top = Math.max(...values) * 1.15;
  const points = values.map((value, i) => {
    const x = width - (values.length - 1 - i) * (width / (SPARK_POINTS - 1));
    return `${x.toFixed(1)},${(height - (value / top) * height).toFixed(1)}`;
  });
  find('websocket-spark').setAttribute('points', points.join(' '));
  const left = points[0].split(',')[0];
  find('websocket-area').setAttribute('d', `M${left},${height} L${points.join(' L')} L${width},${height} Z`);
}

function connectWebsocket() {
  const url = new URL('ws', document.baseURI);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  const socket = new WebSocket(url);
  socket.binaryType = 'arraybuffer';
  let timer;
  let sentAt; // when the ping on its way was sent, if there is one
  let big; // the big message on its way, if there is one
  const bigButton = document.querySelector('[data-action="websocket-big"]');

  const ping = () => {
    if (sentAt !== undefined || big) return;
    sentAt = performance.now();
    socket.send(String(sentAt));
  };
  const sendBig = () => {
    if (big || socket.readyState !== WebSocket.OPEN) return;
    big = { sent: randomBytes(BIG_MESSAGE), at: performance.now() };
    socket.send(big.sent);
    show('websocket-big', 'on its way …');
  };

  setState('websocket', 'busy', 'connecting');
  socket.onopen = () => {
    bigButton.addEventListener('click', sendBig);
    ping();
    timer = setInterval(ping, PING_INTERVAL);
  };
  socket.onmessage = ({ data }) => {
    if (typeof data === 'string') {
      recordTrip(performance.now() - Number(data));
      sentAt = undefined;
      setState('websocket', 'ok', 'connected');
      return;
    }
    const took = performance.now() - big.at;
    const back = new Uint8Array(data);
    const same = back.length === big.sent.length && back.every((byte, i) => byte === big.sent[i]);
    show('websocket-big', same ? `unchanged after ${formatMs(took)}` : 'came back changed');
    big = undefined;
  };
  socket.onclose = ({ code }) => {
    clearInterval(timer);
    if (big) show('websocket-big', 'lost');
    bigButton.removeEventListener('click', sendBig);
    setState('websocket', 'error', `closed (${code}), trying again`);
    setTimeout(connectWebsocket, 2000);
  };
}

// --- server-sent events ---

function listenToEvents() {
  setState('events', 'busy', 'connecting');
  const source = new EventSource('events');
  let count = 0;
  let lastAt;
  source.onmessage = ({ data }) => {
    const tick = JSON.parse(data);
    const now = performance.now();
    count += 1;
    show('events-count', count);
    show('events-time', new Date(tick.unix_ms).toLocaleTimeString('en-GB'));
    show('events-latency', formatMs(Math.max(0, Date.now() - tick.unix_ms)));
    if (lastAt !== undefined) show('events-interval', formatMs(now - lastAt));
    lastAt = now;
    setState('events', 'ok', 'connected');
  };
  source.onerror = () => {
    lastAt = undefined;
    setState('events', 'error', 'broken off, trying again');
    if (source.readyState === EventSource.CLOSED) setTimeout(listenToEvents, 2000);
  };
}

// --- upload ---

const GENERATED = 10 * MB;
const MAX_HASHED = 64 * MB;

function randomBytes(size) {
  const bytes = new Uint8Array(size);
  const most = 65536; // what getRandomValues fills at once
  for (let at = 0; at < size; at += most) crypto.getRandomValues(bytes.subarray(at, at + most));
  return bytes;
}

// sha256 returns the hash in hex, or undefined where the browser does not let
// the page compute it (plain http other than localhost) or it would take long.
async function sha256(blob) {
  if (!crypto.subtle || blob.size > MAX_HASHED) return undefined;
  const hash = await crypto.subtle.digest('SHA-256', await blob.arrayBuffer());
  return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

let uploading;

function upload(blob) {
  uploading?.abort();
  const request = new XMLHttpRequest(); // fetch cannot report progress
  const progress = find('upload-progress');
  const cancel = document.querySelector('[data-action="upload-cancel"]');
  const start = performance.now();
  uploading = request;
  cancel.disabled = false;
  progress.value = 0;
  show('upload-bytes', '–');
  show('upload-sha256', '–');
  setState('upload', 'busy', 'sending');

  const finish = (state, text) => {
    if (uploading !== request) return;
    uploading = undefined;
    cancel.disabled = true;
    setState('upload', state, text);
  };
  request.upload.onprogress = ({ loaded, total }) => {
    progress.value = loaded / (total || 1);
    show('upload-speed', formatSpeed(loaded, performance.now() - start));
  };
  request.onerror = () => finish('error', 'failed');
  request.onabort = () => finish('idle', 'cancelled');
  request.onload = async () => {
    const took = performance.now() - start;
    if (request.status !== 200) {
      finish('error', `failed: status ${request.status}`);
      return;
    }
    const received = JSON.parse(request.responseText);
    show('upload-bytes', formatSize(received.bytes));
    show('upload-speed', formatSpeed(received.bytes, took));
    show('upload-sha256', received.sha256);
    const hash = await sha256(blob);
    if (received.bytes !== blob.size || (hash && hash !== received.sha256)) {
      finish('error', 'arrived changed');
    } else {
      finish('ok', hash ? 'arrived, hash matches' : 'arrived');
    }
  };
  request.open('POST', 'upload');
  request.send(blob);
}

function setUpUpload() {
  const input = find('upload-file');
  const drop = input.closest('.drop');
  input.addEventListener('change', () => {
    if (input.files.length > 0) upload(input.files[0]);
    input.value = ''; // so that the same file can be chosen again
  });
  drop.addEventListener('dragover', (event) => {
    event.preventDefault();
    drop.classList.add('over');
  });
  drop.addEventListener('dragleave', () => drop.classList.remove('over'));
  drop.addEventListener('drop', (event) => {
    event.preventDefault();
    drop.classList.remove('over');
    if (event.dataTransfer.files.length > 0) upload(event.dataTransfer.files[0]);
  });
  onClick('upload-generated', () => upload(new Blob([randomBytes(GENERATED)])));
  onClick('upload-cancel', () => uploading?.abort());
}

// --- download ---

let downloading;

async function download() {
  downloading?.abort();
  const abort = new AbortController();
  const progress = find('download-progress');
  const cancel = document.querySelector('[data-action="download-cancel"]');
  const size = Number(find('download-size').value);
  const start = performance.now();
  let count = 0;
  downloading = abort;
  cancel.disabled = false;
  progress.value = 0;
  setState('download', 'busy', 'receiving');

  const report = () => {
    const took = performance.now() - start;
    progress.value = count / size;
    show('download-bytes', formatSize(count));
    show('download-speed', formatSpeed(count, took));
    show('download-time', `${(took / 1000).toFixed(1)} s`);
  };
  const finish = (state, text) => {
    if (downloading !== abort) return;
    downloading = undefined;
    cancel.disabled = true;
    report();
    setState('download', state, text);
  };
  try {
    const response = await fetch(`download?bytes=${size}`, { signal: abort.signal });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const reader = response.body.getReader();
    let reportedAt = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      count += value.length;
      const now = performance.now();
      if (now - reportedAt > 100) {
        reportedAt = now;
        report();
      }
    }
    if (count === size) finish('ok', 'complete');
    else finish('error', 'too short');
  } catch (error) {
    if (abort.signal.aborted) finish('idle', 'cancelled');
    else finish('error', `failed: ${error.message}`);
  }
}

function setUpDownload() {
  onClick('download', download);
  onClick('download-cancel', () => downloading?.abort());
}

onClick('echo', askEcho);
setUpUpload();
setUpDownload();
askEcho();
connectWebsocket();
listenToEvents();
