package target_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/internal/wire"
	"github.com/websocktunnel/websocktunnel/target"
)

// rawAnswers runs a target that gives one answer to each request, in pieces of at
// most size bytes, and closes the connection if the last of them is over.
func rawAnswers(t *testing.T, size int, answers ...string) (url string) {
	t.Helper()
	ln := tunneltest.Listen(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			br := bufio.NewReader(c)
			for len(answers) > 0 {
				if _, err := http.ReadRequest(br); err != nil {
					break
				}
				for a := range slices.Chunk([]byte(answers[0]), size) {
					c.Write(a)
				}
				answers = answers[1:]
			}
			if len(answers) == 0 {
				// A hanging answer would wait for the end of the connection.
				io.Copy(io.Discard, br)
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

// ask returns what a viewer gets through h.
func ask(t *testing.T, h http.Handler, method string) (resp *http.Response, body string) {
	t.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err = viewer(t).Do(req); err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp, string(b)
}

// TestAnswerHeaders: how the header of a target's answer is taken, and what the log
// says of one that is refused.
func TestAnswerHeaders(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, tt := range []struct {
		name, answer string
		status       int
		header       string // "Name: value" of the answer, or the name in the log
		body         string
	}{
		// A space before the colon: the header was lost, and with it the length.
		{"space", ok + "Content-Type : text/x\r\nContent-Length: 2\r\n\r\nhi", 200, "Content-Type: text/x", "hi"},
		{"spaces and tabs", ok + "Content-Type \t : text/x\r\nContent-Length: 2\r\n\r\nhi", 200, "Content-Type: text/x", "hi"},
		{"tab", ok + "X-Tab\t:x\r\nContent-Length: 2\r\n\r\nhi", 200, "X-Tab: x", "hi"},
		{"space and bare line feeds", "HTTP/1.1 200 OK\nX-A : b\nContent-Length: 2\n\nhi", 200, "X-A: b", "hi"},
		{"space and a folded value", ok + "X-A : b\r\n c : d\r\nContent-Length: 2\r\n\r\nhi", 200, "X-A: b c : d", "hi"},
		{"space, chunked", ok + "X-A : b\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nX : y\n\r\n0\r\n\r\n", 200, "X-A: b", "X : y\n"},
		{"space, after an interim answer", "HTTP/1.1 103 Early Hints\r\nLink : </a>\r\n\r\n" + ok + "X-A : b\r\nContent-Length: 6\r\n\r\nX : y\n", 200, "X-A: b", "X : y\n"},
		{"space before the colon of the length", ok + "Content-Length : 5\r\n\r\nhello", 502, "Content-Length", ""},
		{"tab before the colon of the length", ok + "content-length\t: 5\r\n\r\nhello", 502, "content-length", ""},
		{"two lengths, one with space", ok + "Content-Length : 3\r\nContent-Length: 5\r\n\r\nhello", 502, "Content-Length", ""},
		{"space before the colon of the coding", ok + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 502, "Transfer-Encoding", ""},
		// HTTP/1.0 knows no chunks: their sizes were in the page.
		{"chunked in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 502, "Transfer-Encoding", ""},
		{"chunked in HTTP/1.0 with a length", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\ntransfer-encoding: chunked\r\n\r\nhi", 502, "transfer-encoding", ""},
		{"identity in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhi", 502, "Transfer-Encoding", ""},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nX-A : b\r\nContent-Length: 2\r\n\r\nhi", 200, "X-A: b", "hi"},
		// What is refused anyway is named.
		{"no colon", ok + "X-Before: b\r\nsecret\r\n\r\n", 502, "X-Before", ""},
		{"no colon in the first line", ok + "secret\r\n\r\n", 502, "", ""},
		{"first line folded", ok + " secret: b\r\n\r\n", 502, "", ""},
		{"odd name", ok + "X(A): secret\r\n\r\n", 502, "X(A)", ""},
		{"long odd name", ok + strings.Repeat("x", 100) + "(: secret\r\n\r\n", 502, strings.Repeat("x", 64) + "…", ""},
		{"control character", ok + "X-A: secret\x01\r\n\r\n", 502, "X-A", ""},
		{"control character in a folded value", ok + "X-A: b\r\n secret\x01\r\n\r\n", 502, "X-A", ""},
		{"chunked twice", ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 502, "Transfer-Encoding", ""},
		{"chunked twice in a list", ok + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 502, "Transfer-Encoding", ""},
		{"list of lengths", ok + "Content-Length: 5, 5\r\n\r\nhello", 502, "Content-Length", ""},
		{"two lengths", ok + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 502, "Content-Length", ""},
		{"in an interim answer", "HTTP/1.1 103 Early Hints\r\nX(A): secret\r\n\r\n" + ok + "\r\n", 502, "X(A)", ""},
		{"name with a space", ok + "X A: b\r\nX-B: c\r\nContent-Length: 2\r\n\r\nhi", 200, "X-B: c", "hi"},
	} {
		for _, size := range []int{1, 7, 64 << 10} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				var logged bytes.Buffer
				p, err := target.New(rawAnswers(t, size, tt.answer), target.Options{Logger: zerolog.New(&logged)})
				if err != nil {
					t.Fatal(err)
				}
				defer p.CloseIdleConnections()
				begun := time.Now()
				resp, body := ask(t, p, http.MethodGet)
				if resp.StatusCode != tt.status {
					t.Fatalf("%s %q, and the log has %s", resp.Status, body, &logged)
				}
				if took := time.Since(begun); took > 5*time.Second {
					t.Errorf("it took %v", took)
				}
				if tt.status == 200 {
					name, value, _ := strings.Cut(tt.header, ": ")
					if got := resp.Header.Get(name); got != value || body != tt.body {
						t.Errorf("%s: %q, body %q", name, got, body)
					}
					return
				}
				if kind := resp.Header.Get(wire.HeaderError); kind != "http_protocol_error" {
					t.Errorf("the error is %q", kind)
				}
				if tt.header != "" && !strings.Contains(logged.String(), `"header":"`+tt.header+`"`) || strings.Contains(logged.String(), "secret") {
					t.Errorf("the log has %s", &logged)
				}
			})
		}
	}
}

// TestAnswersInTurn: on one connection the header of each answer is looked at, and
// nothing of their bodies.
func TestAnswersInTurn(t *testing.T) {
	t.Parallel()
	const trap = "HTTP/1.0 200 OK\r\nX : y\r\nTransfer-Encoding : x\r\n\r\n"
	const length = "Content-Length: 49\r\n"
	if len(trap) != 49 {
		t.Fatal(len(trap))
	}
	p, err := target.New(rawAnswers(t, 11,
		"HTTP/1.1 200 OK\r\nX-A : 1\r\n"+length+"\r\n"+trap,
		"HTTP/1.1 200 OK\r\nX-A : 2\r\n"+length+"\r\n", // to HEAD
		"HTTP/1.1 304 Not Modified\r\nX-A : 3\r\n"+length+"\r\n",
		"HTTP/1.1 204 No Content\r\nX-A : 4\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX-A : 5\r\nTransfer-Encoding: chunked\r\n\r\n31\r\n"+trap+"\r\n0\r\nX-T: u\r\n\r\n",
		"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nX-A : 0\r\n\r\nHTTP/1.1 200 OK\r\nX-A : 6\r\n"+length+"\r\n"+trap,
	), target.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.CloseIdleConnections()
	for i, method := range []string{"GET", "HEAD", "GET", "GET", "GET", "GET"} {
		resp, body := ask(t, p, method)
		want := trap
		if i >= 1 && i <= 3 {
			want = ""
		}
		if got := resp.Header.Get("X-A"); got != string(rune('1'+i)) || body != want {
			t.Errorf("answer %d: %s, X-A %q, %q", i+1, resp.Status, got, body)
		}
	}
}
