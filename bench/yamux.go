package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/hashicorp/yamux"
)

// The two yamux roles are a small tunnel, built like several other projects: the
// client dials a websocket, the service opens a yamux stream
// in it for each request and speaks HTTP/1.1 on that. Both ends are
// httputil.ReverseProxies, like ours.

// yamuxServiceSettings are those of the role yamux-service.
type yamuxServiceSettings struct {
	TLS certFiles `json:"tls"`
}

// yamuxRegistration is the path that clients connect to.
const yamuxRegistration = "/.register"

func yamuxConfig() *yamux.Config {
	c := yamux.DefaultConfig()
	c.LogOutput = io.Discard
	return c
}

func runYamuxService(ctx context.Context, s yamuxServiceSettings) error {
	var mu sync.Mutex
	var session *yamux.Session
	current := func() *yamux.Session {
		mu.Lock()
		defer mu.Unlock()
		return session
	}

	proxy := reverseProxy(&url.URL{Scheme: "http", Host: "tunnel"}, &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			session := current()
			if session == nil {
				return nil, errors.New("no client is connected")
			}
			return session.Open()
		},
		DisableKeepAlives:  true,
		DisableCompression: true,
	})
	mux := http.NewServeMux()
	mux.Handle("/", proxy)
	mux.HandleFunc(yamuxRegistration, func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		ws.SetReadLimit(-1)
		s, err := yamux.Client(websocket.NetConn(ctx, ws, websocket.MessageBinary), yamuxConfig())
		if err != nil {
			return
		}
		mu.Lock()
		session = s
		mu.Unlock()
		<-s.CloseChan()
	})
	return serve(ctx, &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}, s.TLS)
}

// yamuxClientSettings are those of the role yamux-client.
type yamuxClientSettings struct {
	Service string `json:"service"` // http or https URL
	Target  string `json:"target"`  // http URL
}

func runYamuxClient(ctx context.Context, s yamuxClientSettings) error {
	target, err := url.Parse(s.Target)
	if err != nil {
		return err
	}
	// The bench's own certificate is the only one that it can meet here.
	hc := &http.Client{Transport: &http.Transport{TLSClientConfig: insecureTLS()}}
	ws, _, err := websocket.Dial(ctx, s.Service+yamuxRegistration, &websocket.DialOptions{HTTPClient: hc})
	if err != nil {
		return err
	}
	ws.SetReadLimit(-1)
	session, err := yamux.Server(websocket.NetConn(ctx, ws, websocket.MessageBinary), yamuxConfig())
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler:           reverseProxy(target, targetTransport()),
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	context.AfterFunc(ctx, func() { srv.Close() })
	fmt.Println("{}")
	return srv.Serve(session)
}
