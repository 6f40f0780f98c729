package demosite_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/websocktunnel/websocktunnel/internal/demosite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newSite serves the site on a real listener.
func newSite(t *testing.T) *httptest.Server {
	t.Helper()
	site := httptest.NewServer(demosite.Handler())
	t.Cleanup(site.Close)
	return site
}

// do sends a request and returns the answer with its body read.
func do(t *testing.T, site *httptest.Server, method, path string, body io.Reader, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, site.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := site.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, got
}

func TestStatusAndType(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, method, path string
		status             int
		contentType        string
	}{
		{"page", "GET", "/", 200, "text/html; charset=utf-8"},
		{"page with a query", "GET", "/?x=1", 200, "text/html; charset=utf-8"},
		{"style", "GET", "/style.css", 200, "text/css; charset=utf-8"},
		{"script", "GET", "/app.js", 200, "text/javascript; charset=utf-8"},
		{"icon", "GET", "/favicon.svg", 200, "image/svg+xml"},
		{"echo", "GET", "/echo", 200, "application/json"},
		{"echo by another method", "PATCH", "/echo", 200, "application/json"},
		{"download", "GET", "/download?bytes=1", 200, "application/octet-stream"},
		{"upload", "POST", "/upload", 200, "application/json"},
		{"upload by PUT", "PUT", "/upload", 200, "application/json"},

		{"HEAD of the page", "HEAD", "/", 200, "text/html; charset=utf-8"},
		{"HEAD of the script", "HEAD", "/app.js", 200, "text/javascript; charset=utf-8"},
		{"HEAD of the echo", "HEAD", "/echo", 200, "application/json"},
		{"HEAD of the events", "HEAD", "/events", 200, "text/event-stream"},
		{"HEAD of the download", "HEAD", "/download", 200, "application/octet-stream"},

		{"POST to the page", "POST", "/", 405, ""},
		{"POST to the script", "POST", "/app.js", 405, ""},
		{"POST to the websocket", "POST", "/ws", 405, ""},
		{"POST to the events", "POST", "/events", 405, ""},
		{"POST to the download", "POST", "/download", 405, ""},
		{"GET of the upload", "GET", "/upload", 405, ""},
		{"HEAD of the upload", "HEAD", "/upload", 405, ""},

		{"no such path", "GET", "/nothing", 404, ""},
		{"no such path beside the echo", "GET", "/echoes", 404, ""},
		{"websocket without an upgrade", "GET", "/ws", 426, ""},
		{"download of no number", "GET", "/download?bytes=many", 400, ""},
		{"download of nothing named", "GET", "/download?bytes=", 400, ""},
		{"download of a negative size", "GET", "/download?bytes=-1", 400, ""},
		{"download above the cap", "GET", "/download?bytes=1073741825", 400, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			resp, _ := do(t, newSite(t), tc.method, tc.path, nil)
			if resp.StatusCode != tc.status {
				t.Errorf("status %d, want %d", resp.StatusCode, tc.status)
			}
			if got := resp.Header.Get("Content-Type"); tc.contentType != "" && got != tc.contentType {
				t.Errorf("Content-Type %q, want %q", got, tc.contentType)
			}
			if tc.status == 405 && resp.Header.Get("Allow") == "" {
				t.Error("405 without Allow")
			}
			if got := resp.Header.Get("Content-Security-Policy"); !strings.HasPrefix(got, "default-src 'self';") {
				t.Errorf("Content-Security-Policy %q", got)
			}
		})
	}
}

var baseElement = regexp.MustCompile(`<base href="([^"]*)">`)

func TestBase(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, prefix, want string }{
		{"none", "", "/"},
		{"an id", "/demo", "/demo/"},
		{"an id with a slash behind", "/demo/", "/demo/"},
		{"a path and an id", "/tunnels/demo", "/tunnels/demo/"},
		{"an urlencoded id stays as it is", "/team%2Fbuild~1", "/team%2Fbuild~1/"},
		{"only slashes", "//", "/"},
		{"another host", "//evil.example", "/evil.example/"},
		{"another host, with a backslash", `/\evil.example`, "/%5cevil.example/"},
		{"another scheme", "javascript:alert(1)", "/javascript:alert%281%29/"},
		{"an end of the attribute", `/a"><script>alert(1)</script>`, "/a%22%3e%3cscript%3ealert%281%29%3c/script%3e/"},
		{"an entity", "/a&amp;b'c", "/a&amp;amp;b%27c/"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var header []string
			if tc.prefix != "" {
				header = []string{"X-Forwarded-Prefix", tc.prefix}
			}
			_, page := do(t, newSite(t), "GET", "/", nil, header...)
			base := baseElement.FindSubmatch(page)
			if base == nil {
				t.Fatal("the page has no base")
			}
			if got := string(base[1]); got != tc.want {
				t.Errorf("base %q, want %q", got, tc.want)
			}
		})
	}
}

// Whatever the page refers to must be there, and relative to its base.
func TestReferences(t *testing.T) {
	t.Parallel()
	site := newSite(t)
	_, page := do(t, site, "GET", "/", nil)
	page = baseElement.ReplaceAll(page, nil)
	references := regexp.MustCompile(`(?:href|src)="([^"]*)"`).FindAllSubmatch(page, -1)
	if len(references) < 3 {
		t.Fatalf("found only %d references", len(references))
	}
	for _, ref := range references {
		path := string(ref[1])
		if strings.Contains(path, ":") || strings.HasPrefix(path, "/") {
			t.Errorf("%q is not relative", path)
			continue
		}
		if resp, _ := do(t, site, "GET", "/"+path, nil); resp.StatusCode != 200 {
			t.Errorf("%q: status %d", path, resp.StatusCode)
		}
	}
	if inline := regexp.MustCompile(`<style|<script>|\s(style|on\w+)="`).Find(page); inline != nil {
		t.Errorf("%q: the page's own policy forbids inline styles and scripts", inline)
	}
}

func TestEcho(t *testing.T) {
	t.Parallel()
	site := newSite(t)
	const target = "/echo//a%2Fb/..?x=1;y=%zz"
	_, body := do(t, site, "PUT", target, strings.NewReader("12345"), "X-Twice", "a", "X-Twice", "b")
	var got struct {
		Method, Target, Host, Proto string
		Headers                     map[string][]string
		BodyBytes                   int64 `json:"body_bytes"`
	}
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatal(err)
	}
	if got.Method != "PUT" || got.Target != target || got.Proto != "HTTP/1.1" || got.BodyBytes != 5 {
		t.Errorf("got %+v", got)
	}
	if want := strings.TrimPrefix(site.URL, "http://"); got.Host != want {
		t.Errorf("host %q, want %q", got.Host, want)
	}
	if twice := got.Headers["X-Twice"]; len(twice) != 2 || twice[0] != "a" || twice[1] != "b" {
		t.Errorf("X-Twice: %q, want both values in order", twice)
	}
}

func TestWebsocket(t *testing.T) {
	t.Parallel()
	site := newSite(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, site.URL+"/ws", &websocket.DialOptions{
		HTTPHeader: http.Header{"Origin": {"https://tunnel.example.com"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	ws.SetReadLimit(-1)

	big := make([]byte, 1<<20)
	rand.Read(big)
	for _, tc := range []struct {
		name    string
		kind    websocket.MessageType
		message []byte
	}{
		{"text", websocket.MessageText, []byte("ping")},
		{"empty", websocket.MessageText, nil},
		{"1 MiB", websocket.MessageBinary, big},
		{"1 MiB once more", websocket.MessageBinary, big},
		{"text after that", websocket.MessageText, []byte("done")},
	} {
		if err := ws.Write(ctx, tc.kind, tc.message); err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		kind, got, err := ws.Read(ctx)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if kind != tc.kind || !bytes.Equal(got, tc.message) {
			t.Errorf("%s: %v of %d bytes came back as %v of %d bytes", tc.name, tc.kind, len(tc.message), kind, len(got))
		}
	}
	if err := ws.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Errorf("closing: %v", err)
	}
}

// tick is the data of one event of the clock.
type tick struct {
	N      int
	UnixMS int64 `json:"unix_ms"`
}

var eventPattern = regexp.MustCompile(`id: (\d+)\ndata: (.*)\n\n`)

// The clock ticks at once, and then once a second.
func TestEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		start := time.Now()
		w := httptest.NewRecorder()
		demosite.Handler().ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/events", nil))

		if took := time.Since(start); took != 3500*time.Millisecond {
			t.Errorf("served for %v, want until the viewer goes", took)
		}
		events := eventPattern.FindAllStringSubmatch(w.Body.String(), -1)
		if len(events) != 4 {
			t.Fatalf("%d events in 3.5 s, want 4: %q", len(events), w.Body)
		}
		for i, event := range events {
			var got tick
			if err := json.Unmarshal([]byte(event[2]), &got); err != nil {
				t.Fatal(err)
			}
			want := tick{N: i + 1, UnixMS: start.Add(time.Duration(i) * time.Second).UnixMilli()}
			if got != want {
				t.Errorf("event %d: %+v, want %+v", i, got, want)
			}
		}
	})
}

// An event is not held back until the next one, or until a buffer is full.
func TestEventsAreFlushed(t *testing.T) {
	t.Parallel()
	site := newSite(t)
	req, err := http.NewRequestWithContext(t.Context(), "GET", site.URL+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := site.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		var got tick
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			if err := json.Unmarshal([]byte(data), &got); err != nil {
				t.Fatal(err)
			}
			if late := time.Since(time.UnixMilli(got.UnixMS)); got.N != 1 || late > 10*time.Second {
				t.Errorf("first event %+v came after %v", got, late)
			}
			return
		}
	}
	t.Fatalf("no event: %v", lines.Err())
}

func TestUpload(t *testing.T) {
	t.Parallel()
	site := newSite(t)
	content := make([]byte, 3<<20)
	rand.Read(content)
	for _, tc := range []struct {
		name string
		body io.Reader
		want []byte
	}{
		{"with a length", bytes.NewReader(content), content},
		{"without a length", io.MultiReader(bytes.NewReader(content)), content},
		{"empty", http.NoBody, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, body := do(t, site, "POST", "/upload", tc.body)
			var got struct {
				Bytes  int
				SHA256 string
			}
			if err := json.Unmarshal(body, &got); err != nil {
				t.Fatal(err)
			}
			hash := sha256.Sum256(tc.want)
			if got.Bytes != len(tc.want) || got.SHA256 != hex.EncodeToString(hash[:]) {
				t.Errorf("got %+v, want %d bytes with hash %x", got, len(tc.want), hash)
			}
		})
	}
}

func TestDownload(t *testing.T) {
	t.Parallel()
	site := newSite(t)
	for _, tc := range []struct {
		name, query string
		want        int64
	}{
		{"default", "", 50_000_000},
		{"nothing", "?bytes=0", 0},
		{"one byte", "?bytes=1", 1},
		{"more than one block", "?bytes=1000003", 1000003},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			resp, body := do(t, site, "GET", "/download"+tc.query, nil)
			if resp.ContentLength != tc.want || int64(len(body)) != tc.want {
				t.Errorf("%d bytes announced, %d sent, want %d", resp.ContentLength, len(body), tc.want)
			}
			resp, _ = do(t, site, "HEAD", "/download"+tc.query, nil)
			if resp.ContentLength != tc.want {
				t.Errorf("HEAD: %d bytes announced, want %d", resp.ContentLength, tc.want)
			}
		})
	}
	t.Run("largest", func(t *testing.T) {
		t.Parallel()
		resp, _ := do(t, site, "HEAD", "/download?bytes=1073741824", nil)
		if resp.StatusCode != 200 || resp.ContentLength != 1<<30 {
			t.Errorf("status %d, %d bytes announced", resp.StatusCode, resp.ContentLength)
		}
	})
	t.Run("always the same", func(t *testing.T) {
		t.Parallel()
		_, a := do(t, site, "GET", "/download?bytes=300000", nil)
		_, b := do(t, site, "GET", "/download?bytes=300000", nil)
		if !bytes.Equal(a, b) {
			t.Error("two downloads differ")
		}
	})
}
