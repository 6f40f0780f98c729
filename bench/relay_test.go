package main

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"
)

func TestLink(t *testing.T) {
	t.Parallel()
	l := link{rate: 1000, queue: 100 * time.Millisecond}
	now := time.Unix(1000, 0)
	// Once, a link that had never been used had no room for ages.
	if got := l.wait(now); got != 0 {
		t.Errorf("a new link makes one wait %v", got)
	}
	if got := l.send(now, 50).Sub(now); got != 50*time.Millisecond {
		t.Errorf("50 bytes at 1000/s leave after %v, want 50 ms", got)
	}
	if got := l.wait(now); got != 0 {
		t.Errorf("with 50 ms of 100 queued, one waits %v", got)
	}
	if got := l.send(now, 150).Sub(now); got != 200*time.Millisecond {
		t.Errorf("150 bytes behind 50 leave after %v, want 200 ms", got)
	}
	if got := l.wait(now); got != 100*time.Millisecond {
		t.Errorf("with 200 ms queued, one waits %v, want 100 ms", got)
	}
	later := now.Add(time.Second)
	if got := l.send(later, 10).Sub(later); got != 10*time.Millisecond {
		t.Errorf("10 bytes on a free link leave after %v, want 10 ms", got)
	}

	free := link{}
	if got := free.send(now, 1<<30); !got.Equal(now) || free.wait(now) != 0 {
		t.Error("a link without a rate takes time")
	}
}

func TestFlight(t *testing.T) {
	t.Parallel()
	f := newFlight(10)
	now := time.Now()
	if !f.put([]byte("a"), now) || !f.put([]byte("b"), now) {
		t.Fatal("put fails")
	}
	f.finish()
	for _, want := range []string{"a", "b"} {
		if data, due, ok := f.next(); !ok || string(data) != want || !due.Equal(now) {
			t.Errorf("next = %q, %v, %v, want %q", data, due, ok, want)
		}
	}
	if _, _, ok := f.next(); ok {
		t.Error("there is something behind the end")
	}

	full := newFlight(1)
	full.put([]byte("a"), now)
	put := make(chan bool)
	go func() { put <- full.put([]byte("b"), now) }()
	full.close()
	if <-put {
		t.Error("put succeeds after close")
	}
	if _, _, ok := full.next(); ok {
		t.Error("next succeeds after close")
	}
}

// relayTo runs a relay to an echo server and returns a connection through it.
func relayTo(t *testing.T, s relaySettings) net.Conn {
	t.Helper()
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { echo.Close() })
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	s.To = echo.Addr().String()
	r := newRelay(s)
	ctx, cancel := context.WithCancel(t.Context())
	l, err := r.listenConfig().Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.serve(ctx, l) }()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("relay: %v", err)
		}
	})
	return c
}

func TestRelay(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		s     relaySettings
		size  int
		least time.Duration // of the way there and back
	}{
		{"delay", relaySettings{Delay: 30 * time.Millisecond}, 1, 60 * time.Millisecond},
		{"rate", relaySettings{Rate: 1 << 20, Queue: 50 * time.Millisecond}, 200 << 10, 190 * time.Millisecond},
		{"as fast as it goes", relaySettings{}, 4 << 20, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := relayTo(t, tt.s)
			sent := make([]byte, tt.size)
			_, _ = rand.NewChaCha8([32]byte{}).Read(sent)
			start := time.Now()
			go func() {
				_, _ = c.Write(sent)
				_ = c.(*net.TCPConn).CloseWrite()
			}()
			got, err := io.ReadAll(c) // the end comes through too
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, sent) {
				t.Error("the relay has changed what it passed on")
			}
			if took := time.Since(start); took < tt.least {
				t.Errorf("it took %v: a link like this needs %v at least", took, tt.least)
			}
		})
	}
}
