package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/net/http2"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/redact"
)

// Limits of the public listener. There is no limit on the time of a request.
const (
	readHeaderTimeout = 20 * time.Second
	maxHeaderBytes    = 64 << 10

	// For each HTTP/2 connection of a viewer. All its streams may stall, and
	// must fit into the connection's window and into an address's share of memory
	// (maxAddressShare), or they starve the next.
	viewerStreams      = 128
	viewerStreamWindow = 448 << 10
	viewerConnWindow   = (viewerStreams + 4) * viewerStreamWindow
	viewerFrameSize    = 16 << 10
)

// crowded reports whether r came on a connection that is there only because
// tunnel clients have to be able to register while viewers take all others.
func (s *Server) crowded(r *http.Request) bool {
	c := requestConn(r)
	return c != nil && s.connections.overfull(c)
}

// requestConn returns the connection that r came on, or nil if Serve has not accepted
// it.
func requestConn(r *http.Request) *viewerConn {
	conn, _ := r.Context().Value(connKey{}).(net.Conn)
	return viewerConnOf(conn)
}

// Serve accepts connections on ln, from viewers and tunnel clients, until
// Shutdown or Close; then it returns [ErrServerClosed]. It speaks HTTP/1 and
// HTTP/2, over TLS if the Config has a TLSConfig, and sets the time limits that
// a public server needs. It may be called for several listeners.
func (s *Server) Serve(ln net.Listener) error {
	hs, err := s.newHTTPServer()
	if err != nil {
		return err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		ln.Close()
		return ErrServerClosed
	}
	s.servers[hs] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.isDraining() { // otherwise Shutdown and Close still need it
			delete(s.servers, hs)
		}
	}()

	ln = &viewerListener{ln, s}
	if s.cfg.TLSConfig != nil {
		err = hs.ServeTLS(ln, "", "")
	} else {
		err = hs.Serve(ln)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return ErrServerClosed
	}
	return err
}

// newHTTPServer returns what serves one listener, with the right protocols and
// limits.
func (s *Server) newHTTPServer() (*http.Server, error) {
	hs := &http.Server{
		Handler:           h2conn.UpgradeHandler(s),
		ReadHeaderTimeout: s.cfg.headerTimeout,
		IdleTimeout:       s.cfg.IdleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnState:         s.connections.connState,
		ErrorLog:          s.errorLog,
		Protocols:         new(http.Protocols),
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		// OPTIONS * is answered by ServeHTTP like any other request.
		DisableGeneralOptionsHandler: true,
	}
	hs.Protocols.SetHTTP1(true)
	if s.cfg.TLSConfig != nil {
		hs.TLSConfig = s.cfg.TLSConfig.Clone()
		hs.TLSConfig.NextProtos = []string{"h2", "http/1.1", "http/1.0"} // curl --http1.0 offers only the last
		hs.TLSConfig.MinVersion = max(hs.TLSConfig.MinVersion, tls.VersionTLS12)
		hs.Protocols.SetHTTP2(true)
	} else {
		hs.Protocols.SetUnencryptedHTTP2(!s.cfg.DisableH2C)
	}
	// viewerConn times writes. HTTP/2 is x/net's rather than net/http's, since only
	// that serves viewers' websockets over HTTP/2 (RFC 8441).
	h2s := &http2.Server{
		MaxConcurrentStreams:         viewerStreams,
		IdleTimeout:                  s.cfg.IdleTimeout,
		MaxReadFrameSize:             viewerFrameSize,
		MaxUploadBufferPerStream:     viewerStreamWindow,
		MaxUploadBufferPerConnection: viewerConnWindow,
	}
	if err := http2.ConfigureServer(hs, h2s); err != nil {
		return nil, fmt.Errorf("server: configuring HTTP/2: %w", err)
	}
	// As ConfigureServer does it, on a connection that is watched.
	hs.TLSNextProto["h2"] = func(hs *http.Server, c *tls.Conn, h http.Handler) {
		var conn net.Conn = c
		if vc := viewerConnOf(c); vc != nil {
			w := h2conn.WatchTLS(c, s.watchConfig(vc))
			vc.watched.Store(w.WatchedConn)
			conn = w
		}
		opts := &http2.ServeConnOpts{Handler: h, BaseConfig: hs}
		if b, ok := h.(interface{ BaseContext() context.Context }); ok {
			opts.Context = b.BaseContext()
		}
		h2s.ServeConn(conn, opts)
	}
	return hs, nil
}

// connKey is the context key of the connection that a request came on.
type connKey struct{}

// NewErrorLog returns the logger for what net/http and x/net/http2 have to say,
// mostly about peers that broke off or spoke no HTTP: nobody's business in
// normal operation, so they go to debug, except panics. No more than two lines
// are written within a second; the next one has in suppressed_lines how many
// were left out.
//
// A Server has its own. What the HTTP/2 of its tunnels says goes to the standard
// logger, which a program may give the writer of another one:
//
//	log.SetFlags(0)
//	log.SetOutput(server.NewErrorLog(logger).Writer())
func NewErrorLog(l zerolog.Logger) *log.Logger {
	return log.New(newErrorLogWriter(l), "", 0)
}

func newErrorLogWriter(l zerolog.Logger) *errorLogWriter {
	return &errorLogWriter{new(lineLimit).limited(l, othersPerSecond)}
}

type errorLogWriter struct{ log zerolog.Logger }

func (w *errorLogWriter) Write(p []byte) (int, error) {
	w.write(p, "")
	return len(p), nil
}

// write is Write for a line about the request that is called id, unless that is
// empty.
func (w *errorLogWriter) write(p []byte, id string) {
	text := redact.Text(string(p))
	level := zerolog.DebugLevel
	switch {
	case strings.Contains(text, "panic"):
		level = zerolog.ErrorLevel
	case strings.Contains(text, "Accept error"): // out of descriptors, usually
		level = zerolog.WarnLevel
	}
	e := w.log.WithLevel(level).Str("from", "net/http")
	if id != "" {
		e = e.Str("request_id", id)
	}
	e.Msg(text)
}
