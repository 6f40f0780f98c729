package reliability

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestAbortStorm covers F17 in numbers: viewers that come and leave at once, by
// reset, by an end and by cancelling a stream, over real sockets. So many of
// their requests have to arrive at the tunnel client. The tunnel's
// session stays, a neighbour is served all the time, and nothing is left. Its
// figures come from
//
//	WST_LONG=1 go test -tags http2legacy -run TestAbortStorm -v -timeout 1h ./internal/reliability
func TestAbortStorm(t *testing.T) {
	noLeaks(t)
	aborts := int64(pick(2000, 100_000))
	const parallel = 24
	tg := newTarget(t)
	s := newTCPService(t, server.Config{})
	var arrived, cancelled atomic.Int64 // requests of the storm, at the tunnel client
	proxy := tg.handler(t)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		storm := r.Header.Get("X-Forwarded-For") == "127.0.0.1" // the neighbour says another
		if storm {
			arrived.Add(1)
		}
		defer func() {
			if storm && r.Context().Err() != nil {
				cancelled.Add(1)
			}
		}()
		proxy.ServeHTTP(w, r)
	})
	if _, err := s.connect("a", h, tunnelclient.Config{}, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	session := s.WaitTunnel("a")

	var (
		made    atomic.Int64
		storm   sync.WaitGroup
		over    = make(chan struct{})
		rngSeed = seed(t)
		begun   = time.Now()
	)
	for i := range parallel {
		rng := rand.New(rand.NewPCG(rngSeed, uint64(i)))
		storm.Go(func() {
			two := &http.Transport{DialContext: s.dialViewer, Protocols: new(http.Protocols)}
			two.Protocols.SetUnencryptedHTTP2(true)
			defer two.CloseIdleConnections()
			for arrived.Load() < aborts {
				made.Add(1)
				if rng.IntN(2) == 0 {
					abortHTTP1(t, s, rng)
				} else {
					abortHTTP2(t, two, rng)
				}
			}
		})
	}
	go func() { storm.Wait(); close(over) }()

	// The neighbour: small requests, one after the other.
	neighbour := newViewer(s, tg, "a", 0, rand.New(rand.NewPCG(rngSeed, 99)))
	var longest time.Duration
	served := 0
	for done := false; !done; {
		select {
		case <-over:
			done = true // and once more
		case <-time.After(5 * time.Millisecond):
		}
		ctx, cancel := context.WithTimeout(t.Context(), exchangeBound)
		from := time.Now()
		out, err := neighbour.small(ctx, cancel)
		cancel()
		if out != right {
			t.Errorf("the neighbour: %s: %v", out, err)
		}
		longest = max(longest, time.Since(from))
		served++
	}
	took := time.Since(begun)
	if !tunneltest.Poll(20*time.Second, func() bool { return s.InFlight() == 0 }) {
		t.Errorf("%d requests are still in flight", s.InFlight())
	}
	if now, ok := s.Tunnel("a"); !ok || !now.ConnectedAt.Equal(session.ConnectedAt) {
		t.Errorf("the session is another: %v, at first %v", now, session)
	}
	neighbour.close()
	tg.verdict(t)
	t.Logf("%d aborts in %v, of which %d arrived at the tunnel client, %d of them with their handlers still at work; %d neighbour's requests, the longest took %v",
		made.Load(), took.Round(time.Millisecond), arrived.Load(), cancelled.Load(), served, longest.Round(time.Millisecond))
	// Some end before they are whole, or before the service has read them.
	if n := cancelled.Load(); n < aborts/2 {
		t.Errorf("only %d of %d requests were cut off in their midst: that is no storm", n, aborts)
	}
	if longest > pick(exchangeBound, 5*time.Second) {
		t.Errorf("a neighbour's request took %v", longest)
	}
}

// abortHTTP1 makes a request and resets or ends the connection.
func abortHTTP1(t *testing.T, s *service, rng *rand.Rand) {
	nc, err := s.dialViewer(t.Context(), "", "")
	if err != nil {
		t.Error(err)
		return
	}
	c := nc.(*net.TCPConn)
	defer c.Close()
	switch rng.IntN(4) {
	case 0:
		io.WriteString(c, "GET /a/wait?ms=60000 HTTP/1.1\r\nHost: h\r\n\r\n")
	case 1:
		io.WriteString(c, "GET /a/down?seed=1&size=200000 HTTP/1.1\r\nHost: h\r\n\r\n")
		io.ReadFull(c, make([]byte, rng.IntN(10_000)))
	case 2:
		fmt.Fprintf(c, "POST /a/up?seed=1&size=1000000&id=%d HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n", rng.Uint64())
		io.Copy(c, payload{seed: 1, size: uint64(rng.IntN(50_000))}.reader())
	case 3: // not even a whole header
		io.WriteString(c, "GET /a/wait HTTP/1.1\r\nHo")
	}
	if rng.IntN(2) == 0 {
		c.SetLinger(0)
	}
}

// abortHTTP2 makes a request and cancels it.
func abortHTTP2(t *testing.T, tr *http.Transport, rng *rand.Rand) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(5000))*time.Microsecond)
	defer cancel()
	path := "/a/wait?ms=60000"
	if rng.IntN(2) == 0 {
		path = "/a/down?seed=1&size=200000"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://tunnel.test"+path, nil)
	if err != nil {
		t.Error(err)
		return
	}
	if resp, err := tr.RoundTrip(req); err == nil {
		io.CopyN(io.Discard, resp.Body, 1000)
		resp.Body.Close()
	}
}
