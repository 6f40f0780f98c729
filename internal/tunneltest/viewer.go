package tunneltest

import (
	"io"
	"net/http"
	"testing"
)

// NewViewer returns an HTTP client with connections of its own, which it keeps
// until the test ends. It trusts [Certificate], and speaks HTTP/1.1. Its
// Transport is an [http.Transport]; the caller may change both.
func NewViewer(t testing.TB) *http.Client {
	tr := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100, TLSClientConfig: ClientTLS()}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// ReadAll returns the body of an answer and closes it. A body that breaks off
// is an error of the test. Any goroutine may call it.
func ReadAll(t testing.TB, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}
