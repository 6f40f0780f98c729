package faultnet_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/faultnet"
)

// TestListener: net/http works over it in a bubble, with the faults of the
// options.
func TestListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := faultnet.Listen(faultnet.Options{
			Up:   faultnet.Faults{Delay: time.Second},
			Down: faultnet.Faults{Delay: 2 * time.Second, Slice: 3},
		})
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.RemoteAddr)
		})}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(ln) }()
		tr := &http.Transport{DialContext: ln.DialContext, DisableKeepAlives: true}
		seen := make(map[string]bool)
		for range 3 {
			begun := time.Now()
			resp, err := (&http.Client{Transport: tr}).Get("http://h/")
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if d := time.Since(begun); d != 3*time.Second {
				t.Errorf("it took %v", d)
			}
			seen[string(b)] = true
		}
		if len(seen) != 3 {
			t.Errorf("remote addresses: %v", seen)
		}
		srv.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		synctest.Wait()
		if n := len(ln.Links()); n != 0 {
			t.Errorf("%d links are left", n)
		}
	})
}

func TestRefuse(t *testing.T) {
	ln := faultnet.Listen(faultnet.Options{})
	ln.Refuse(true)
	if _, err := ln.DialContext(t.Context(), "", ""); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("refused: %v", err)
	}
	ln.Refuse(false)
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := ln.Accept()
		accepted <- c
	}()
	c, err := ln.DialContext(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(ln.Links()); n != 1 {
		t.Errorf("%d links", n)
	}
	ln.ResetAll()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after ResetAll: %v", err)
	}
	c.Close()
	(<-accepted).Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ln.DialContext(ctx, "", ""); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody accepts: %v", err)
	}
	ln.Close()
	if _, err := ln.DialContext(t.Context(), "", ""); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("closed: %v", err)
	}
	if n := len(ln.Links()); n != 0 {
		t.Errorf("%d links are left", n)
	}
}
