package h2spec

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestViewers runs the suite as a viewer of a tunnel.
func TestViewers(t *testing.T) {
	for _, tc := range []struct {
		name    string
		tls     bool
		subject subject
	}{
		{"h2c", false, viewerH2C},
		{"tls", true, viewerTLS},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := harness.Start(t, harness.Options{TLS: tc.tls})
			url := s.Client("h2spec", http.HandlerFunc(answer))
			run(t, tc.subject, serverCases(configFor(t, url+"/")))
		})
	}
}

// TestAnsweringEnd runs the suite as a service, against tunnel clients: one for
// each connection, since a tunnel client does not outlive a case.
func TestAnsweringEnd(t *testing.T) {
	ln := tunneltest.Listen(t)
	a := newAcceptor(t)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		for i := 0; ; i++ {
			tcp, err := ln.Accept()
			if err != nil {
				return
			}
			// h2spec forgets to close a few.
			stop := context.AfterFunc(ctx, func() { tcp.Close() })
			done.Go(func() {
				defer tcp.Close()
				defer stop()
				if err := serveTunnelClient(a, fmt.Sprint("case", i), tcp); err != nil {
					t.Error(err)
				}
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		cancel()
		done.Wait()
	})
	c := configFor(t, "http://"+ln.Addr().String()+"/")
	c.MaxHeaderLen = 60_000 // this end takes frames of 256 KiB
	run(t, answeringEnd, serverCases(c))
}

// serveTunnelClient runs a tunnel client whose service is whoever is at the
// other end of tcp, as long as that connection lives.
func serveTunnelClient(a *acceptor, id string, tcp net.Conn) error {
	c, err := tunnelclient.New(tunnelclient.Config{
		ServerURL: a.srv.URL, ID: id, Tokens: tunnelclient.StaticToken("any"), DrainTimeout: -1,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	served := make(chan error, 1)
	session := a.expect(id)
	go func() { served <- c.Serve(ctx, http.HandlerFunc(answer)) }()
	select {
	case ws, ok := <-session:
		if ok {
			relay(tcp, ws)
		}
		cancel()
		err = <-served
		if !ok {
			err = fmt.Errorf("the websocket of %s was refused", id)
		}
		return err
	case err := <-served:
		return fmt.Errorf("the tunnel client of %s has ended: %w", id, err)
	}
}

// TestControlServers runs the suite against servers without this project.
func TestControlServers(t *testing.T) {
	xnet := func(t *testing.T, hs *http.Server) {
		if err := http2.ConfigureServer(hs, &http2.Server{MaxReadFrameSize: 64 << 10}); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name      string
		tls       bool
		configure func(t *testing.T, hs *http.Server)
		subject   subject
	}{
		{"xnet h2c", false, xnet, xnetServer},
		{"xnet tls", true, xnet, xnetServerTLS},
		{"nethttp h2c", false, func(_ *testing.T, hs *http.Server) {
			hs.HTTP2 = &http.HTTP2Config{MaxReadFrameSize: 64 << 10}
		}, nethttpServer},
	} {
		t.Run(tc.name, func(t *testing.T) {
			hs := &http.Server{Handler: http.HandlerFunc(answer), Protocols: new(http.Protocols)}
			hs.Protocols.SetHTTP1(true)
			url := "http://"
			if tc.tls {
				url = "https://"
				hs.Protocols.SetHTTP2(true)
				hs.TLSConfig = tunneltest.ServerTLS()
			} else {
				hs.Protocols.SetUnencryptedHTTP2(true)
			}
			tc.configure(t, hs)
			ln := tunneltest.Listen(t)
			done := make(chan struct{})
			go func() {
				defer close(done)
				if tc.tls {
					hs.ServeTLS(ln, "", "")
				} else {
					hs.Serve(ln)
				}
			}()
			t.Cleanup(func() { hs.Close(); <-done })
			run(t, tc.subject, serverCases(configFor(t, url+ln.Addr().String()+"/")))
		})
	}
}
