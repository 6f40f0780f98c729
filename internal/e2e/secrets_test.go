package e2e

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestNoSecretGetsOut: strings that stand for secrets are put wherever one may
// be, everything is done that ends in a log line or an error page, and none is
// found in those, with all logging on.
func TestNoSecretGetsOut(t *testing.T) {
	const canary = "cAnArY-42"
	var out tunneltest.Log // and the answers that are not a target's
	log.SetOutput(&out)
	defer log.SetOutput(io.Discard)
	logger := zerolog.New(&out).Level(zerolog.TraceLevel)

	// The service, with two secrets. Tokens are canaries as a whole.
	secrets := [][]byte{[]byte(canary + "-secret-a-0123456789abcdef012345"), []byte(canary + "-secret-b-0123456789abcdef012345")}
	s := tunneltest.NewService(t, server.Config{Secrets: secrets, Logger: logger,
		// For the silent target. The others have to answer in time, or what they have done wrong is not logged.
		ResponseHeaderTimeout: 1500 * time.Millisecond})
	addr := s.Addr
	var wg sync.WaitGroup
	hidden := []string{canary, base64.StdEncoding.EncodeToString([]byte(canary))}
	mint := func(secret []byte, id string) string {
		tok, err := server.MintToken(secret, server.Claims{ID: id, TTL: time.Hour, Audience: canary})
		if err != nil {
			t.Fatal(err)
		}
		for part := range strings.SplitSeq(tok, ".") {
			hidden = append(hidden, part)
		}
		return tok
	}

	// A target that answers in all the wrong ways, by tunnel.
	answers := map[string]string{
		"status":    "HTTP/1.1 999999 " + canary + "\r\n\r\n",
		"nohttp":    canary + "\r\n\r\n",
		"version":   "HTTP/" + canary + " 200 OK\r\n\r\n",
		"nocolon":   "HTTP/1.1 200 OK\r\nSet-Cookie " + canary + "\r\n\r\n",
		"firstline": "HTTP/1.1 200 OK\r\n Set-Cookie: " + canary + "\r\n\r\n",
		"badname":   "HTTP/1.1 200 OK\r\nSet Cookie: " + canary + "\r\n\r\n",
		"badvalue":  "HTTP/1.1 200 OK\r\nSet-Cookie: " + canary + "\x01\x7f\r\nContent-Length: 0\r\n\r\n",
		"length":    "HTTP/1.1 200 OK\r\nContent-Length: " + canary + "\r\n\r\n",
		"lengths":   "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\nX: " + canary + "\r\n\r\nx",
		"coding":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + canary + "\r\n\r\n",
		"upgrade":   "HTTP/1.1 101 OK\r\nConnection: Upgrade\r\nUpgrade: other-" + canary + "\r\n\r\n",
		"chunk":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + canary + "\r\n",
		"trailer":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Set-Cookie\r\n\r\n1\r\nx\r\n0\r\nSet-Cookie " + canary + "\r\n\r\n",
		"large":     "HTTP/1.1 200 OK\r\nSet-Cookie: " + canary + strings.Repeat("x", 400<<10) + "\r\n\r\n",
		"interim":   strings.Repeat("HTTP/1.1 103 Early\r\nX: "+strings.Repeat("x", 30<<10)+"\r\n\r\n", 50) + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"silent":    "",
	}
	target := tunneltest.ServeConns(t, func(c net.Conn) {
		buf := make([]byte, 4<<10)
		n, _ := c.Read(buf)
		path, _, _ := strings.Cut(strings.TrimPrefix(string(buf[:n]), "GET /"), "/"+canary)
		answer, ok := answers[path]
		if !ok {
			return
		}
		_, _ = io.WriteString(c, answer)
		if answer == "" {
			_, _ = c.Read(buf) // until the other end gives up
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer wg.Wait()
	defer cancel()
	connect := func(id string, secret []byte, h http.Handler) {
		t.Helper()
		c, err := tunnelclient.New(tunnelclient.Config{ServerURL: "http://" + addr, ID: id, Tokens: tunnelclient.StaticToken(mint(secret, id)), Logger: logger})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { _ = c.Serve(ctx, h) })
		if _, err := c.URL(ctx); err != nil {
			t.Fatal(err)
		}
	}
	// Each kind of answer has a tunnel of its own: what a tunnel may write to
	// the log within a second is bounded, and none of its lines is to be lost.
	for _, id := range append(slices.Collect(maps.Keys(answers)), "a", "closed") {
		proxy, err := tunnelclient.ProxyTo(target.Addr().String(), tunnelclient.ProxyOptions{Logger: logger, RewriteRedirects: true})
		if err != nil {
			t.Fatal(err)
		}
		connect(id, secrets[0], proxy)
	}
	connect("p", secrets[1], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		panic(fmt.Errorf("%s panics over %v", canary, r.Header))
	}))
	connect("u", secrets[1], http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, brw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprintf(brw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other-%s\r\n\r\n", canary)
		brw.Flush()
		c.Close()
	}))

	// What viewers and others send, raw. All answers are the service's own.
	const key = "Y0FuQXJZLXdzLWtleS0xNg=="
	hidden = append(hidden, key)
	private := "Host: h\r\nAuthorization: Basic " + canary + "\r\nCookie: a=" + canary + "\r\nSec-WebSocket-Key: " + key + "\r\nReferer: http://h/?" + canary + "\r\n"
	var sending sync.WaitGroup
	send := func(requests ...string) {
		for _, r := range requests {
			sending.Go(func() { _, _ = out.Write([]byte(rawExchange(t, addr, r))) })
		}
	}
	for _, path := range append(slices.Collect(maps.Keys(answers)), "closed") {
		for _, accept := range []string{"text/html", "application/json"} {
			send("GET /" + path + "/" + path + "/" + canary + "?q=" + canary + " HTTP/1.1\r\n" + private + "Accept: " + accept + "\r\nConnection: close\r\n\r\n")
		}
	}
	upgrade := "Connection: Upgrade\r\nUpgrade: "
	send(
		"GET /upgrade/upgrade/"+canary+" HTTP/1.1\r\n"+private+upgrade+"own-"+canary+"\r\n\r\n",
		"GET /upgrade/upgrade/"+canary+" HTTP/1.1\r\n"+private+upgrade+"websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
		"GET /upgrade/upgrade/"+canary+" HTTP/1.1\r\n"+private+upgrade+canary+"\xff\r\n\r\n",
		"POST /u/upgrade/"+canary+" HTTP/1.1\r\n"+private+upgrade+"own-"+canary+"\r\n\r\n",
		"GET /p/"+canary+"?"+canary+" HTTP/1.1\r\n"+private+"Connection: close\r\n\r\n",
		"GET /nobody/"+canary+"?"+canary+" HTTP/1.1\r\n"+private+"Connection: close\r\n\r\n",
		"GET /%zz"+canary+" HTTP/1.1\r\n"+private+"Connection: close\r\n\r\n",
		"GET /a/"+canary+" HTTP/1.1\r\nHost: "+canary+"@h\r\nConnection: close\r\n\r\n",
		"GET /a/"+canary+" HTTP/1.1\r\n"+private+canary+"\r\n\r\n",
		"GET /a/"+canary+" HTTP/1.1\r\n"+private+"X: "+canary+strings.Repeat("x", 100<<10)+"\r\n\r\n",
		"GET /a/"+canary+" HTTP/1.1\r\n"+private+"X: "+strings.Repeat(canary, 9<<10)+"\r\nConnection: close\r\n\r\n",
		"POST /closed/closed/"+canary+" HTTP/1.1\r\n"+private+"Transfer-Encoding: chunked\r\n\r\n"+canary+"\r\n",
		"POST /closed/closed/"+canary+" HTTP/1.1\r\n"+private+"Content-Length: "+canary+"\r\n\r\n",
		canary+"\r\n\r\n",
		"CONNECT "+canary+":443 HTTP/1.1\r\n"+private+"\r\n",
		"OPTIONS * HTTP/1.1\r\n"+private+"Connection: close\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"+canary+canary+canary,
		"\x16\x03\x01\x00\x50"+canary+strings.Repeat("x", 80)+"\r\n\r\n",
	)
	// Registrations that fail.
	register := "GET / HTTP/1.1\r\nHost: h\r\nCookie: a=" + canary + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key +
		"\r\nSec-WebSocket-Protocol: websocktunnel.h2.v1\r\nx-websocktunnel-id: a\r\nAuthorization: "
	good := "Bearer " + mint(secrets[0], "a")
	for _, authorization := range []string{
		"", "Basic " + canary, "Bearer " + canary, "Bearer " + canary + "." + canary + "." + canary, "Bearer " + mint([]byte("another"), "a"), "Bearer " + mint(secrets[1], "other"), good,
	} {
		send(strings.Replace(register, "websocktunnel.h2.v1", canary, 1)+authorization+"\r\nConnection: close\r\n\r\n",
			register+authorization+"\r\nX: "+canary+"\r\n\r\n")
	}
	send("GET /?" + canary + " HTTP/1.1\r\n" + private + "x-websocktunnel-id: a\r\nConnection: close\r\n\r\n")

	sending.Wait()

	// A tunnel client that breaks the rules, and tokens that come later.
	conn, _, err := h2conn.Dial(ctx, "http://"+addr, h2conn.DialOptions{
		Header:      http.Header{"Authorization": {"Bearer " + mint(secrets[0], "m")}, "X-Websocktunnel-Id": {"m"}},
		Subprotocol: "websocktunnel.h2.v1",
	})
	if err != nil {
		t.Fatal(err)
	}
	replies := make(chan []byte, 2)
	conn.OnControl(func(b []byte) { replies <- b })
	wg.Go(func() { _ = h2conn.Serve(ctx, conn, http.NotFoundHandler(), h2conn.ServeConfig{}) })
	for _, tok := range []string{canary, mint(secrets[1], "other")} {
		_ = conn.SendControl([]byte(`{"type":"token","token":"` + tok + `"}`))
		<-replies
	}
	for _, message := range []string{`{"type":"` + canary + `"}`, `{"type":7,"token":"` + canary + `"`} {
		_ = conn.SendControl([]byte(message))
	}
	<-conn.Done()

	cancel()
	s.Stop()
	wg.Wait()
	text := out.String()
	for _, want := range []string{"registration refused", "tunnel connected", "request failed", "the target failed", "panic serving", "fresh token refused", "malformed control message",
		"malformed HTTP response", "malformed HTTP status code", "malformed HTTP version", "malformed MIME header", "bad Content-Length", "multiple Content-Length", "a flood of interim answers",
		"HTTP/1.1 502 ", "HTTP/1.1 504 ", "HTTP/1.1 404 ", "HTTP/1.1 400 ", "HTTP/1.1 401 ", "HTTP/1.1 431 "} {
		if !strings.Contains(text, want) {
			t.Errorf("the output has no %q: the test does not do what it is to do", want)
		}
	}
	for _, h := range hidden {
		if len(h) < 7 {
			t.Fatalf("%q is no canary", h)
		}
		if strings.HasPrefix(h, "eyJhbGci") {
			continue // the header of all tokens
		}
		for i := strings.Index(text, h); i >= 0; i = -1 {
			t.Errorf("%q is in the output: …%s…", h, text[max(0, i-300):min(len(text), i+100)])
		}
	}
	if t.Failed() {
		t.Logf("%d bytes of output", len(text))
	}
}

// rawExchange sends request as it stands and returns what comes until the
// connection ends, without what the target has to say.
func rawExchange(t *testing.T, addr, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(conn, request) // it may be refused before its end
	if !strings.Contains(request, "Connection: close") {
		conn.SetReadDeadline(time.Now().Add(2 * time.Second)) // the connection is kept
	}
	b, _ := io.ReadAll(conn)
	return string(b)
}
