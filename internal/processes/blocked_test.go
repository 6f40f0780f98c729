//go:build linux

package processes

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// writeBound is how long a write may make no progress: 10 s, and a second for
// what measures.
const writeBound = 11 * time.Second

// TestBlockedPeer (F3): a tunnel client that takes nothing any more but goes on
// sending, so that it never looks silent. h2conn's TestStuckPeer is the same
// within one process, with a peer that does nothing.
func TestBlockedPeer(t *testing.T) {
	needProcesses(t)
	needLong(t)
	addr := newAddr()
	svc := startService(t, addr, serviceOptions{})
	tg := newTarget(t, here, "127.0.0.1")
	other := startClient(t, here, "http://"+addr, "other", tg.addr)
	viewer := newViewer(t, here)
	served(t, viewer, other.url)

	var worst time.Duration
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		mark := svc.mark()
		deaf := registerDeaf(ctx, t, addr)
		svc.says(mark, "tunnel connected .*id=deaf", patience)
		mark = svc.mark()
		begun := time.Now()
		victim := inBackground("upload to the deaf client", func() (int, string, error) {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/deaf/", io.LimitReader(content(), 1<<30))
			if err != nil {
				return 0, "", err
			}
			return do(viewer, req)
		})
		stop := probe(t, viewer, other.url, 20*time.Millisecond)
		ended := svc.says(mark, "session ended .*id=deaf", 3*writeBound)
		worst = max(worst, ended.At.Sub(begun))
		if victim.wait(t, patience); victim.status != 502 {
			// The service may have closed while the viewer was still sending.
			t.Logf("the viewer got %d %v", victim.status, victim.err)
		}
		if d := victim.at.Sub(begun); d > writeBound+detectionSlack {
			t.Errorf("the viewer was told after %v", d)
		}
		took, failed := stop()
		none(t, "failed requests to another tunnel", failed)
		if p99 := quantile(took, 0.99); p99 > time.Second {
			t.Errorf("another tunnel's p99 was %v", p99)
		}
		cancel()
		if n := <-deaf; n < 10 {
			t.Errorf("the client has sent %d pings only: it was silent", n)
		}
	}
	summary(t, "a client that only sends was cut after at most %v", ms(worst))
	if worst > writeBound+time.Second { // a second for the buffers to fill
		t.Errorf("it was cut after %v", worst)
	}
}

// registerDeaf registers a tunnel client as "deaf" that reads nothing after the
// first ping, and goes on sending pings until ctx ends or the connection does.
// The channel gives the number of them.
func registerDeaf(ctx context.Context, t *testing.T, addr string) <-chan int {
	t.Helper()
	tok := tunneltest.Token(t, "deaf")
	tr := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, network, addr)
		if err == nil {
			_ = c.(*net.TCPConn).SetReadBuffer(4096)
		}
		return c, err
	}}
	ws, _, err := websocket.Dial(ctx, "ws://"+addr+"/", &websocket.DialOptions{
		HTTPClient:   &http.Client{Transport: tr},
		HTTPHeader:   http.Header{"Authorization": {"Bearer " + tok}, wire.HeaderID: {"deaf"}},
		Subprotocols: []string{wire.Subprotocol},
	})
	if err != nil {
		t.Fatal(err)
	}
	nc := websocket.NetConn(ctx, ws, websocket.MessageBinary)
	fr := http2.NewFramer(nc, nc)
	fr.WriteSettings(
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 100},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	fr.WriteWindowUpdate(0, 1<<30)
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(nc, preface); err != nil {
		t.Fatal(err)
	}
	for pinged := false; !pinged; {
		f, err := fr.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = fr.WriteSettingsAck()
			}
		case *http2.PingFrame:
			err = fr.WritePing(true, f.Data)
			pinged = true
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	sent := make(chan int, 1)
	go func() {
		defer ws.CloseNow()
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			if err := fr.WritePing(false, [8]byte{byte(n)}); err != nil {
				sent <- n
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				sent <- n
				return
			}
		}
	}()
	return sent
}
