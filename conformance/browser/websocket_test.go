package browser

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/coder/websocket"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// wsScript goes before the scripts that use websockets.
const wsScript = `
	const connect = (path, protocols = []) => {
		const url = new URL(path, location.href);
		url.protocol = url.protocol.replace('http', 'ws');
		const ws = new WebSocket(url, protocols);
		ws.binaryType = 'arraybuffer';
		return ws;
	};
	const closed = (ws) => new Promise((resolve) => {
		ws.onclose = ({ code, reason, wasClean }) => resolve({ code, reason, wasClean });
	});
	const open = (path, protocols) => new Promise((resolve, reject) => {
		const ws = connect(path, protocols);
		ws.onopen = () => resolve(ws);
		ws.onclose = ({ code }) => reject(new Error('closed with ' + code));
	});
	const message = (ws) => new Promise((resolve, reject) => {
		ws.onmessage = ({ data }) => resolve(data);
		ws.onclose = ({ code }) => reject(new Error('closed with ' + code));
	});
`

// closing is the end of a websocket as JavaScript sees it.
type closing struct {
	Code     int
	Reason   string
	WasClean bool
}

// wsTarget is a site with a websocket echo that can close, and that tells how
// it was closed.
type wsTarget struct {
	closed chan websocket.CloseError
}

func (x *wsTarget) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/ws":
	case "/refuse":
		w.WriteHeader(http.StatusForbidden)
		return
	default:
		blank(w, r)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: "ws", Value: "1"})
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		InsecureSkipVerify:   true, // the Host is the service's, on purpose
		Subprotocols:         []string{"chat.v2", "chat.v1"},
		CompressionMode:      websocket.CompressionContextTakeover,
		CompressionThreshold: 1,
	})
	if err != nil {
		return
	}
	defer c.CloseNow()
	c.SetReadLimit(-1)
	for {
		kind, p, err := c.Read(r.Context())
		if ce := (websocket.CloseError{}); errors.As(err, &ce) {
			x.closed <- ce
		}
		if err != nil {
			return
		}
		words := strings.SplitN(string(p), " ", 3)
		switch {
		case kind == websocket.MessageText && words[0] == "close":
			code, _ := strconv.Atoi(words[1])
			c.Close(websocket.StatusCode(code), words[2])
			return
		case kind == websocket.MessageText && words[0] == "drop":
			return
		}
		if c.Write(r.Context(), kind, p) != nil {
			return
		}
	}
}

// TestWebsocket: the browser's websockets, directly and through tunnels: by an
// upgrade of HTTP/1.1 and by HTTP/2 on the page's own connection (RFC 8441),
// each in both inner forms.
func TestWebsocket(t *testing.T) {
	for _, tc := range []struct {
		name     string
		direct   bool
		tls      bool
		fallback bool
		status   int64
	}{
		{name: "directly", direct: true, status: 101},
		{name: "HTTP1, extended CONNECT inside", status: 101},
		{name: "HTTP1, fallback inside", fallback: true, status: 101},
		{name: "HTTP2, extended CONNECT inside", tls: true, status: 200},
		{name: "HTTP2, fallback inside", tls: true, fallback: true, status: 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if tc.direct {
				table.Passed(t, "Chromium", "WebSocket: echo, deflate, close codes, refusal", "", "passed", "")
			} else {
				table.Passed(t, "Chromium", "WebSocket: echo, deflate, close codes, refusal", tc.name, "", "passed")
			}
			site := &wsTarget{closed: make(chan websocket.CloseError, 10)}
			target := httptest.NewServer(site)
			t.Cleanup(target.Close)
			page, connections := target.URL+"/", func() int32 { return 0 }
			if !tc.direct {
				s := harness.Start(t, harness.Options{
					TLS:    tc.tls,
					Server: server.Config{NoExtendedConnect: tc.fallback},
				})
				s.Target("id", target.URL, tunnelclient.ProxyOptions{})
				for info := range s.Tunnels() {
					if info.ExtendedConnect == tc.fallback {
						t.Fatalf("extended CONNECT inside: %t", info.ExtendedConnect)
					}
				}
				addr, count := countedListener(t, s)
				scheme, _, _ := strings.Cut(s.URL, ":")
				page, connections = fmt.Sprintf("%s://%s/id/", scheme, addr), count.Load
			}

			tb := newTab(t)
			tb.open(page)
			before := connections()
			handshakes := make(chan *network.WebSocketResponse, 100)
			if err := chromedp.Listen(tb.ctx, func(ev any) {
				if ev, ok := ev.(*network.EventWebSocketHandshakeResponseReceived); ok {
					handshakes <- ev.Response
				}
			}); err != nil {
				t.Fatal(err)
			}

			// The handshake.
			got := js[struct {
				Protocol, Extensions, Text, Cookie string
				Bytes                              int
				Same                               bool
				Closing                            closing
			}](tb, wsScript+`
				const ws = await open('ws', ['chat.v1', 'chat.v9']);
				ws.send('grüße');
				const text = await message(ws);
				const sent = new Uint8Array(1 << 20);
				for (let at = 0; at < sent.length; at += 65536) crypto.getRandomValues(sent.subarray(at, at + 65536));
				ws.send(sent);
				const back = new Uint8Array(await message(ws));
				const end = closed(ws);
				ws.close();
				return {
					protocol: ws.protocol, extensions: ws.extensions, text, cookie: document.cookie,
					bytes: back.length, same: back.every((byte, i) => byte === sent[i]), closing: await end,
				};
			`)
			if got.Protocol != "chat.v1" || got.Text != "grüße" || got.Bytes != 1<<20 || !got.Same {
				t.Errorf("got %+v", got)
			}
			if !strings.HasPrefix(got.Extensions, "permessage-deflate") {
				t.Errorf("extensions are %q", got.Extensions)
			}
			if got.Cookie != "ws=1" {
				t.Errorf("the cookie of the handshake's answer: %q", got.Cookie)
			}
			if got.Closing != (closing{1005, "", true}) {
				t.Errorf("closing without a code: %+v", got.Closing)
			}
			<-site.closed
			if h := <-handshakes; h.Status != tc.status {
				t.Errorf("the handshake's status is %d, want %d", h.Status, tc.status)
			}
			if after := connections(); tc.tls && (before != 1 || after != 1) {
				t.Errorf("%d connections for the page and %d with the websocket, want one", before, after)
			}

			// Closed by the target.
			for _, want := range []closing{
				{1000, "done", true}, {1000, "", true}, {1001, "going", true}, {1011, "oh", true},
				{3000, "three", true}, {4999, "Grüße, " + strings.Repeat("x", 100), true},
			} {
				got := js[closing](tb, wsScript+`
					const ws = await open('ws');
					ws.send('close ' + args[0] + ' ' + args[1]);
					return closed(ws);
				`, want.Code, want.Reason)
				if got != want {
					t.Errorf("closed by the target: got %+v, want %+v", got, want)
				}
			}
			// Closed by the page.
			for _, want := range []closing{{1000, "done", true}, {3000, "three", true}, {4999, "ü" + strings.Repeat("x", 100), true}} {
				got := js[closing](tb, wsScript+`
					const ws = await open('ws');
					const end = closed(ws);
					ws.close(args[0], args[1]);
					return end;
				`, want.Code, want.Reason)
				if got != want {
					t.Errorf("closed by the page: got %+v, want %+v", got, want)
				}
				if at := <-site.closed; int(at.Code) != want.Code || at.Reason != want.Reason {
					t.Errorf("closed by the page: the target got %+v, want %+v", at, want)
				}
			}
			// Broken off by the target, and refused.
			if got := js[closing](tb, wsScript+`const ws = await open('ws'); ws.send('drop it'); return closed(ws)`); got != (closing{1006, "", false}) {
				t.Errorf("broken off: %+v", got)
			}
			if got := js[closing](tb, wsScript+`return closed(connect('refuse'))`); got != (closing{1006, "", false}) {
				t.Errorf("refused: %+v", got)
			}
			if after := connections(); tc.tls && after != 1 {
				t.Errorf("%d connections in the end", after)
			}
		})
	}
}
