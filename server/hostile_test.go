package server

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// TestStreamsTakenBack: a tunnel client that takes back the streams it has
// admitted lets its viewers wait for a bounded time only, and gets no request
// that was given up.
func TestStreamsTakenBack(t *testing.T) {
	s := newService(t, Config{})
	s.headWait = 200 * time.Millisecond
	c := s.dialFramed("a")
	defer c.conn.Close()
	acks := make(chan struct{}, 10)
	go c.answer(func(f http2.Frame) {
		switch f := f.(type) {
		case *http2.SettingsFrame:
			acks <- struct{}{}
		case *http2.HeadersFrame:
			c.fr.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, f.StreamID, []byte{0x88})
		}
	})
	<-acks
	s.waitActive(c)
	take := func(n uint32) {
		if err := c.do(func(fr *http2.Framer) error {
			return fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: n})
		}); err != nil {
			t.Fatal(err)
		}
		<-acks
	}
	take(0)
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			resp, err := s.http.Get(s.url + "/a/")
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
				t.Errorf("without streams: %s", resp.Status)
			}
		})
	}
	wg.Wait()
	take(100)
	// One of those that were given up may wait on inside x/net, and hold up the
	// next request until that is given up too: x/net looks whether a request has
	// been cancelled only after it has waited.
	waitFor(t, func() bool {
		resp, _ := s.get("/a/")
		return resp.StatusCode == http.StatusOK
	})
}

func TestLineLimit(t *testing.T) {
	var l lineLimit
	now := time.Unix(1000, 0)
	written := 0
	for range 100 {
		if n, ok := l.allow(now, 4); ok {
			written++
			if n != 0 {
				t.Errorf("%d lines suppressed before there were any", n)
			}
		}
	}
	if written != 4 {
		t.Errorf("%d lines in a second, want 4", written)
	}
	if l.idle(now.Add(time.Minute)) {
		t.Error("it may be forgotten with lines that were not told")
	}
	if n, ok := l.allow(now, 5); !ok || n != 96 {
		t.Errorf("the end of a session: %v, %d lines suppressed, want 96", ok, n)
	}
	if n, ok := l.allow(now.Add(time.Second), 4); !ok || n != 0 {
		t.Errorf("%v, they are told again: %d", ok, n)
	}
	if l.idle(now.Add(time.Second)) || !l.idle(now.Add(2*time.Second)) {
		t.Error("idle is wrong")
	}
}

// TestLineLimitsForget: ids that nobody has any more take no memory for ever.
func TestLineLimitsForget(t *testing.T) {
	var l lineLimits
	for i := range 10 * minSweep {
		l.of(label(strings.Repeat("a", 1+i%200) + string(rune('a'+i/200))))
	}
	if len(l.all) > minSweep {
		t.Errorf("%d limits", len(l.all))
	}
	used, now := l.of("used"), time.Now()
	for range 2 { // the second is suppressed
		used.allow(now, 1)
	}
	for i := range 3 * minSweep {
		l.of(label(strings.Repeat("b", 1+i%200) + string(rune('a'+i/200))))
	}
	if l.of("used") != used {
		t.Error("one with something to tell was forgotten")
	}
}

// TestErrorLogLimited: what net/http and x/net say is bounded too, and the rest
// counted.
func TestErrorLogLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		l := NewErrorLog(zerolog.New(&buf))
		const said = 1100
		for range said {
			l.Printf("http2: Transport received what it does not know")
			pause(time.Millisecond)
		}
		lines := strings.Split(strings.TrimSpace(buf.String()), "\n")
		told := 0
		for _, line := range lines {
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Fatal(err)
			}
			if n, ok := fields[suppressedField].(float64); ok {
				told += int(n)
			}
		}
		// In the second second the first line tells of all before it.
		if len(lines) != 2*othersPerSecond || told != 1000-othersPerSecond {
			t.Errorf("%d lines and %d told for %d said", len(lines), told, said)
		}
		buf.Reset()
		quiet := NewErrorLog(zerolog.New(&buf).Level(zerolog.InfoLevel))
		for range 100 {
			quiet.Print("noise")
		}
		quiet.Print("http: panic serving 127.0.0.1: oh")
		if !strings.Contains(buf.String(), "panic serving") {
			t.Error("lines that are not written count: the panic is lost")
		}
	})
}

// noTrailers and noAnswers are what never reaches a viewer in trailers, and in
// the header: written down once more, so that none is lost from the lists of the
// code.
var (
	noTrailers = []string{
		"Set-Cookie", "Host", "Location", "Alt-Svc", "Clear-Site-Data", "Nel", "Origin-Agent-Cluster", "Public-Key-Pins",
		"Report-To", "Reporting-Endpoints", "Service-Worker-Allowed", "Strict-Transport-Security",
	}
	noAnswers = []string{
		"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade", "Te", "Proxy-Authenticate", "Proxy-Authorization", "Trailer",
	}
)

// FuzzTrailers: what is left of an answer's trailers is harmless where they are
// merged into a header, and what is harmless is left.
func FuzzTrailers(f *testing.F) {
	for _, k := range noTrailers {
		f.Add(k, "v")
	}
	for _, k := range []string{"Grpc-Status", "Content-Length", "Transfer-Encoding", "Set-Cookie", "X-Websocktunnel-Error", "Nel", "Te", "Trailer", "", "A b", "Connection"} {
		f.Add(k, "v")
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		k := http.CanonicalHeaderKey(name)
		h := http.Header{k: {value}, "X-Harmless": {"1"}}
		checkTrailer(h)
		if h.Get("X-Harmless") != "1" && k != "X-Harmless" {
			t.Fatal("a harmless trailer is gone")
		}
		_, left := h[k]
		bad := !httpguts.ValidTrailerHeader(k) || strings.HasPrefix(k, wire.HeaderPrefix) || slices.Contains(noTrailers, k)
		if left == bad {
			t.Fatalf("%q: left %v", k, left)
		}
	})
}

// FuzzAnswer: an answer that passes has a status of three digits, at most one
// length, which is a number, and no headers of the connection or of ours.
func FuzzAnswer(f *testing.F) {
	for _, k := range noAnswers {
		f.Add(200, "200 OK", "", "", k, "")
	}
	f.Add(200, "200 OK", "5", "5", "X-Websocktunnel-Upgrade", "close, x-a")
	f.Add(200, "200", "5", "4", "Keep-Alive", "")
	f.Add(99, "099", "", "-1", "Te", "x-websocktunnel-error")
	f.Add(200, "+200", "+5", "5", "Upgrade", ",,")
	f.Add(304, "304", "5", "5", "Trailer", "content-length")
	f.Fuzz(func(t *testing.T, status int, line, length, second, name, nominated string) {
		resp := &http.Response{StatusCode: status, Status: line, Body: http.NoBody, Header: http.Header{}}
		if status == http.StatusSwitchingProtocols {
			return // made by h2conn
		}
		if length != "" {
			resp.Header["Content-Length"] = []string{length, second}
		}
		resp.Header.Set(name, "x")
		resp.Header["Connection"] = append(resp.Header["Connection"], nominated)
		resp.Header.Set("X-A", "kept unless it is named")
		if err := checkAnswer(resp); err != nil {
			return
		}
		if resp.StatusCode < 200 || resp.StatusCode > 599 {
			t.Fatalf("status %d passes", resp.StatusCode)
		}
		if line != "" && (len(line) < 3 || !digits(line[:3])) {
			t.Fatalf("status line %q passes", line)
		}
		if cl := resp.Header["Content-Length"]; len(cl) > 1 || len(cl) == 1 && !digits(cl[0]) {
			t.Fatalf("lengths %q pass", cl)
		}
		for _, k := range noAnswers {
			if _, ok := resp.Header[k]; ok {
				t.Fatalf("%s passes", k)
			}
		}
		for k := range resp.Header {
			if strings.HasPrefix(k, wire.HeaderPrefix) && k != wire.HeaderError {
				t.Fatalf("%s passes", k)
			}
			for n := range strings.SplitSeq(nominated, ",") {
				if n = http.CanonicalHeaderKey(strings.TrimSpace(n)); n == k && k != wire.HeaderError {
					t.Fatalf("%s passes, which Connection names", k)
				}
			}
		}
	})
}
