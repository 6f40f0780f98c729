package h2conn_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// limiting is an answering end made of raw frames, which answers each request
// with 200 and changes how many it admits.
type limiting struct {
	t    *testing.T
	fr   *http2.Framer
	acks chan struct{}
	mu   sync.Mutex // of writing
}

func newLimiting(t *testing.T) (*limiting, *h2conn.Transport) {
	dialled, accepted := conns(t)
	tr, err := h2conn.NewTransport(accepted, h2conn.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	if _, err := io.ReadFull(dialled, make([]byte, len(http2.ClientPreface))); err != nil {
		t.Fatal(err)
	}
	l := &limiting{t: t, fr: http2.NewFramer(dialled, dialled), acks: make(chan struct{}, 10)}
	go l.run()
	return l, tr
}

func (l *limiting) run() {
	for {
		f, err := l.fr.ReadFrame()
		if err != nil {
			return
		}
		l.mu.Lock()
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if f.IsAck() {
				l.acks <- struct{}{}
			} else {
				l.fr.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				l.fr.WritePing(true, f.Data)
			}
		case *http2.HeadersFrame:
			l.fr.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, f.StreamID, []byte{0x88})
		}
		l.mu.Unlock()
	}
}

// admit returns when the asking end knows that n streams are admitted.
func (l *limiting) admit(n uint32) {
	l.t.Helper()
	l.mu.Lock()
	err := l.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: n})
	l.mu.Unlock()
	if err != nil {
		l.t.Fatal(err)
	}
	<-l.acks
}

func ask(ctx context.Context, tr *h2conn.Transport, body io.Reader) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://h/", body)
	if err != nil {
		return err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// TestStreamsTakenBack: requests wait while the peer admits none, go on when it
// does, and those that are cancelled meanwhile hold up no others.
func TestStreamsTakenBack(t *testing.T) {
	l, tr := newLimiting(t)
	for round := range 20 {
		l.admit(0)
		var waiting sync.WaitGroup
		cancelled, cancel := context.WithCancel(t.Context())
		for range 20 {
			waiting.Go(func() {
				b := &closing{}
				if err := ask(cancelled, tr, b); !errors.Is(err, context.Canceled) || !b.closed() {
					t.Errorf("round %d: cancelled: %v, body closed: %v", round, err, b.closed())
				}
			})
		}
		if !tr.Usable() {
			t.Errorf("round %d: a full connection is said to be unusable", round)
		}
		time.AfterFunc(time.Duration(round)*time.Millisecond/4, cancel)
		waiting.Wait()
		cancel()

		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		var patient sync.WaitGroup
		for range 5 {
			patient.Go(func() {
				if err := ask(ctx, tr, nil); err != nil {
					t.Errorf("round %d: a request that waits for streams: %v", round, err)
				}
			})
		}
		l.admit(100)
		patient.Wait()
		if err := ask(ctx, tr, nil); err != nil {
			t.Errorf("round %d: with streams again: %v", round, err)
		}
		cancel()
	}
	tr.Close()
	if err := ask(t.Context(), tr, nil); err == nil || tr.Usable() {
		t.Errorf("a closed connection: %v, usable: %v", err, tr.Usable())
	}
}

// closing is an empty body that knows whether it has been closed.
type closing struct {
	mu   sync.Mutex
	done bool
}

func (c *closing) Read([]byte) (int, error) { return 0, io.EOF }

func (c *closing) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = true
	return nil
}

func (c *closing) closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}
