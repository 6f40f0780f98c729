package target

import (
	"fmt"
	"io"
	"net/http"
	"testing"
)

// trailingBody ends when end is closed, and then has trailers, as net/http's bodies do.
type trailingBody struct {
	reading, end chan struct{}
	trailer      http.Header
}

func (b trailingBody) Read([]byte) (int, error) {
	close(b.reading)
	<-b.end
	b.trailer["X-End"] = []string{"end"}
	b.trailer["X-Removed"] = []string{"x"}
	return 0, io.EOF
}

func (trailingBody) Close() error { return nil }

// TestTrailersOfSecondTry: the upload ends, and its trailers come, while the second try begins.
func TestTrailersOfSecondTry(t *testing.T) {
	for range 100 {
		upload := trailingBody{make(chan struct{}), make(chan struct{}), http.Header{"X-End": nil, "X-Removed": nil}}
		b := requestBody{ReadCloser: upload}
		b.keep()
		b.announce(upload.trailer, headerChanges{names: []string{"X-Removed"}})
		var first, second http.Request
		b.attach(&first)
		over := make(chan error, 1)
		go func() {
			_, err := b.Read(make([]byte, 1))
			over <- err
		}()
		<-upload.reading
		b.Close() // as net/http does when the target refuses the request
		<-over
		close(upload.end)
		if !b.rewind() {
			t.Fatal("no second try")
		}
		b.attach(&second)
		for k := range second.Trailer { // as net/http does
			_ = k
		}
		if _, err := io.ReadAll(&b); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(second.Trailer, first.Trailer); got != "map[X-End:[end]] map[X-End:[]]" {
			t.Fatalf("the trailers of the second try and of the first are %v", got)
		}
	}
}
