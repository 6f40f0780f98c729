"use strict";

const $ = id => document.getElementById(id);
const limit = 50;
const state = { search: "", state: "", sort: "id", offset: 0, id: null };
const sent = []; // bytes to viewers, every two seconds
let sentAt = 0;
let stream;
let self = ""; // the name of this node, if the service is one of several

// showNodes shows the nodes of the cluster, if the service is one of several.
function showNodes(list) {
  const own = list.nodes.find(n => n.self);
  self = own ? own.name : "";
  document.title = own ? "websocktunnel " + self : "websocktunnel";
  $("nodes").hidden = list.nodes.length === 0;
  $("directory").textContent = "The directory " + (list.directory_reachable ? "answers" : "does not answer: tunnels of this node are served all the same") +
    (list.directory_whole ? "." : ", and may not have all ids.") + (list.forged ? " Entries with a wrong signature: " + list.forged + "." : "");
  $("node-rows").replaceChildren(...list.nodes.map(n => {
    const row = document.createElement("tr");
    row.append(element("td", n.name + (n.self ? " (this one)" : "")), element("td", n.state + (n.fault ? ": " + n.fault : "")), element("td", String(n.tunnels), "n"),
      element("td", n.self ? "–" : String(n.in_flight), "n"), element("td", n.self ? "–" : ping(n.round_trip_seconds), "n"), element("td", n.addr), element("td", n.version));
    return row;
  }));
}

// size returns bytes in the largest unit.
function size(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return (i ? n.toFixed(1) : n) + " " + units[i];
}

// span returns seconds in the largest unit.
function span(s) {
  if (s < 60) return Math.max(0, Math.floor(s)) + " s";
  if (s < 3600) return Math.floor(s / 60) + " min";
  if (s < 172800) return Math.floor(s / 3600) + " h";
  return Math.floor(s / 86400) + " d";
}

const since = t => span((Date.now() - Date.parse(t)) / 1000);
const left = t => Date.parse(t) > Date.now() ? span((Date.parse(t) - Date.now()) / 1000) : "expired";
const condition = t => t.state === "gone" ? "gone " + since(t.last_end_at) + " ago: " + t.last_end_reason.replaceAll("_", " ") : t.state;
const ping = s => s ? (s * 1000).toFixed(1) + " ms" : "–";
const of = (n, most) => most ? n + " of " + most : String(n);

// element returns an element with text, never HTML: ids are a stranger's choice.
function element(name, text, className) {
  const e = document.createElement(name);
  if (text !== undefined) e.textContent = text;
  if (className) e.className = className;
  return e;
}

function showTotals(s) {
  $("tunnels-now").textContent = of(s.tunnels, s.max_tunnels);
  $("flapping").textContent = s.flapping;
  $("in-flight").textContent = of(s.in_flight, s.slots);
  $("waiting").textContent = s.waiting;
  $("connections").textContent = of(s.connections, s.max_connections);
  $("held").textContent = size(s.held_bytes) + (s.max_held_bytes ? " of " + size(s.max_held_bytes) : "");
  $("received").textContent = size(s.received_bytes);
  $("sent").textContent = size(s.sent_bytes);
  $("draining").hidden = !s.draining;
  if (Date.now() - sentAt < 1500) return; // another search has begun a new stream
  sentAt = Date.now();
  sent.push(s.sent_bytes);
  if (sent.length > 91) sent.shift();
  const rates = sent.slice(1).map((n, i) => n - sent[i]);
  const most = Math.max(1, ...rates);
  $("traffic").firstElementChild.setAttribute("points",
    rates.map((r, i) => ((90 - rates.length + i) * 300 / 89).toFixed(1) + "," + (39 - r / most * 37).toFixed(1)).join(" "));
}

function showList(list) {
  if (list.offset > 0 && list.tunnels.length === 0) { // the page is gone
    state.offset = 0;
    connect();
    return;
  }
  const focused = document.activeElement && document.activeElement.dataset.id;
  $("rows").replaceChildren(...list.tunnels.map(t => {
    const row = element("tr");
    const id = element("td");
    const button = element("button", t.id);
    button.type = "button";
    button.dataset.id = t.id;
    id.append(button);
    row.append(id, element("td", condition(t)));
    for (const text of [t.failed_requests, t.reconnects, t.in_flight, size(t.sent_bytes), size(t.received_bytes), ping(t.round_trip_seconds), t.replacements, since(t.connected_at), left(t.token_expires_at)]) {
      row.append(element("td", text, "n"));
    }
    row.append(element("td", t.remote_addr));
    return row;
  }));
  if (focused !== undefined) {
    for (const b of $("rows").querySelectorAll("button")) if (b.dataset.id === focused) b.focus();
  }
  $("count").textContent = list.total + (list.total === 1 ? " tunnel" : " tunnels") + (self ? " on " + self : "");
  $("page").textContent = list.total ? (list.offset + 1) + "–" + (list.offset + list.tunnels.length) + " of " + list.total : "none";
  $("back").disabled = list.offset === 0;
  $("next").disabled = list.offset + list.tunnels.length >= list.total;
}

function table(head, rows) {
  const t = element("table"), h = element("tr");
  head.forEach(text => h.append(element("th", text)));
  t.append(h);
  for (const cells of rows) {
    const r = element("tr");
    cells.forEach(text => r.append(element("td", text)));
    t.append(r);
  }
  return t;
}

function showDetail(d) {
  const body = $("detail-body");
  if (!d) {
    body.replaceChildren(element("p", "No tunnel with this id is connected, or has been within the last ten minutes."));
    $("evict").disabled = true;
    return;
  }
  $("evict").disabled = d.blocked && !d.active;
  $("unblock").hidden = !d.blocked;
  const list = element("dl"), t = d.active || d.gone;
  const facts = t ? [
    ["State", condition(t) + (d.blocked ? "; its token is blocked" : "")],
    ["Address", t.remote_addr], ["Connected", since(t.connected_at) + " ago"], ["Token", left(t.token_expires_at)],
    ["Websockets", t.connections], ["In flight", t.in_flight], ["Received", size(t.received_bytes)], ["Sent", size(t.sent_bytes)], ["Last ping", ping(t.round_trip_seconds)],
    ["Failed", t.failed_requests + (t.failed_requests === 1 ? " request" : " requests")],
    ["Reconnects", t.reconnects + " in 10 min" + (t.last_end_at && d.active ? "; the session before ended " + since(t.last_end_at) + " ago: " + t.last_end_reason.replaceAll("_", " ") : "")],
    ["Replaced", t.replacements + " times" + (t.replaced_addr ? ", last " + t.replaced_addr : "")],
    ["Upgrades", t.extended_connect ? "extended CONNECT" : "in the fallback form"],
  ] : [["Active", "no: it takes no requests"]];
  for (const [name, value] of facts) list.append(element("dt", name), element("dd", value));
  body.replaceChildren(list, element("h3", "Sessions"),
    table(["Address", "State", "Connected", "In flight"], d.sessions.map(s => [s.remote_addr, s.state, since(s.connected_at), s.in_flight])));
  if (d.failures.length) {
    body.append(element("h3", "Last failures"),
      table(["When", "Status", "Because of", "Error", "Code", "Request"], d.failures.map(f => [since(f.time) + " ago", f.status || "–", f.hop, f.error, f.error_code, f.request_id])));
  }
}

function showBlocked(ids, total) {
  $("blocked").hidden = total === 0;
  const shown = [...$("blocked-ids").querySelectorAll("button")].map(b => b.dataset.id);
  if (shown.length !== ids.length || ids.some((id, i) => id !== shown[i])) { // otherwise a button keeps the focus
    $("blocked-ids").replaceChildren(...ids.map(id => {
      const item = element("li"), button = element("button", "Unblock");
      button.type = "button";
      button.dataset.id = id;
      button.setAttribute("aria-label", "Unblock " + id);
      item.append(element("span", id), button);
      return item;
    }));
  }
  $("blocked-more").hidden = total <= ids.length;
  $("blocked-more").textContent = (total - ids.length) + " more: websocktunnel admin evicted";
}

// connect asks for what the state says, from now on.
function connect() {
  if (stream) stream.close();
  const q = new URLSearchParams({ search: state.search, state: state.state, sort: state.sort, offset: state.offset, limit });
  if (state.id !== null) q.set("id", state.id);
  stream = new EventSource("/events?" + q);
  stream.onopen = () => { $("live").textContent = "live"; };
  stream.onerror = () => {
    $("live").textContent = "no connection to the service; trying again";
    if (stream.readyState === EventSource.CLOSED) setTimeout(connect, 3000);
  };
  stream.onmessage = event => {
    const now = JSON.parse(event.data);
    showTotals(now.status);
    showNodes(now.nodes);
    if (state.id !== null) showDetail(now.tunnel);
    showList(now.list);
    showBlocked(now.blocked, now.blocked_total);
  };
}

async function change(path) {
  const answer = await fetch(path, { method: "POST", headers: { "X-Websocktunnel-Admin": "1" } });
  if (!answer.ok) throw new Error((await answer.json()).detail);
}

async function unblock(id) {
  try {
    await change("/api/v1/tunnels/" + encodeURIComponent(id) + "/unblock");
    $("live").textContent = id + " unblocked";
  } catch (error) {
    $("live").textContent = id + " not unblocked: " + error.message;
  }
  connect(); // and see it at once
}

let typing;
$("text").addEventListener("input", event => {
  clearTimeout(typing);
  typing = setTimeout(() => { state.search = event.target.value.trim(); state.offset = 0; connect(); }, 200);
});
$("state").addEventListener("change", event => { state.state = event.target.value; state.offset = 0; connect(); });
$("search").addEventListener("submit", event => event.preventDefault());
document.querySelector("thead").addEventListener("click", event => {
  const by = event.target.dataset.sort;
  if (!by) return;
  state.sort = state.sort === by ? "-" + by : by;
  state.offset = 0;
  for (const th of document.querySelectorAll("th[aria-sort]")) th.removeAttribute("aria-sort");
  event.target.parentElement.setAttribute("aria-sort", state.sort === by ? "ascending" : "descending");
  connect();
});
$("back").addEventListener("click", () => { state.offset = Math.max(0, state.offset - limit); connect(); });
$("next").addEventListener("click", () => { state.offset += limit; connect(); });
$("rows").addEventListener("click", event => {
  const id = event.target.dataset.id;
  if (id === undefined) return;
  state.id = id;
  $("detail-id").textContent = id;
  $("detail-body").replaceChildren();
  $("evict").disabled = true;
  $("unblock").hidden = true;
  $("detail").showModal();
  connect();
});
$("close").addEventListener("click", () => $("detail").close());
$("detail").addEventListener("close", () => {
  if ($("detail").open) return; // for another tunnel already: the event comes late
  state.id = null;
  connect();
});
$("evict").addEventListener("click", () => {
  $("confirm-text").textContent = "Evict " + state.id + "? Its requests end now, and its token and older ones stay blocked until they expire or you unblock them.";
  $("confirm").showModal();
  $("no").focus();
});
$("unblock").addEventListener("click", () => unblock(state.id));
$("blocked-ids").addEventListener("click", event => {
  if (event.target.dataset.id !== undefined) unblock(event.target.dataset.id);
});
$("no").addEventListener("click", () => $("confirm").close());
$("yes").addEventListener("click", async () => {
  $("confirm").close();
  try {
    await change("/api/v1/tunnels/" + encodeURIComponent(state.id) + "/evict");
    $("live").textContent = state.id + " evicted";
    $("detail").close();
  } catch (error) {
    $("detail-body").prepend(element("p", "Not evicted: " + error.message, "warning"));
  }
});
if ($("logout")) {
  $("logout").addEventListener("click", async () => {
    await change("/logout");
    location.reload();
  });
}
connect();
