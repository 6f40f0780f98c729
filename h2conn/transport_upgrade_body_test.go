package h2conn

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"
	"testing/iotest"
)

// TestUpgradeBodyChunks: whatever the sizes of its reads, the chunked coding
// holds the body, and what the viewer sends follows.
func TestUpgradeBodyChunks(t *testing.T) {
	content := strings.Repeat("0123456789", 20)
	for name, own := range map[string]func() io.Reader{
		"end alone":     func() io.Reader { return strings.NewReader(content) },
		"end with data": func() io.Reader { return iotest.DataErrReader(strings.NewReader(content)) },
		"byte by byte":  func() io.Reader { return iotest.OneByteReader(strings.NewReader(content)) },
	} {
		t.Run(name, func(t *testing.T) {
			for size := chunkHead + chunkTail + 1; size < 2*len(content); size++ {
				pr, pw := io.Pipe()
				b := &upgradeBody{stream: pr, sent: make(chan struct{})}
				h := make(http.Header)
				b.begin(h, &http.Request{Body: io.NopCloser(own()), ContentLength: -1})
				go func() {
					io.WriteString(pw, "after")
					pw.Close()
				}()
				var all bytes.Buffer
				var err error
				for p := make([]byte, size); err == nil; {
					var n int
					n, err = b.Read(p)
					all.Write(p[:n])
				}
				<-b.sent
				rest, ok := strings.CutSuffix(all.String(), "0\r\n\r\nafter")
				got, e := io.ReadAll(httputil.NewChunkedReader(strings.NewReader(rest + "0\r\n")))
				if err != io.EOF || !ok || e != nil || string(got) != content || h.Get(HeaderUpgradeBody) != "chunked" {
					t.Fatalf("in reads of %d: %q, %v, %v, header %q", size, all.String(), err, e, h.Get(HeaderUpgradeBody))
				}
			}
		})
	}
}

// TestUpgradeBodyWholeAndOver: a body that was whole did not break off, although
// the stream has ended behind it.
func TestUpgradeBodyWholeAndOver(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	gone := make(chan struct{})
	close(gone)
	for range 100 { // select chooses at random
		pr, _ := io.Pipe()
		b := &upgradeBody{stream: pr, sent: make(chan struct{})}
		b.begin(make(http.Header), &http.Request{Body: io.NopCloser(strings.NewReader("body")), ContentLength: 4})
		if err := b.waitOwn(ctx, gone); err == nil {
			t.Fatal("a body that was not read counts as whole")
		}
		io.ReadFull(b, make([]byte, 4))
		b.Close()
		if err := b.waitOwn(ctx, gone); err != nil {
			t.Fatal(err)
		}
	}
}
