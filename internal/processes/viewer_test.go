//go:build linux

package processes

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// newViewer returns an HTTP client on a host.
func newViewer(t testing.TB, h *host) *http.Client {
	tr := &http.Transport{MaxIdleConnsPerHost: 100}
	if h != here {
		tr.DialContext = h.dial
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// get returns the status and the body, or the error of either.
func get(ctx context.Context, viewer *http.Client, url string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	return do(viewer, req)
}

func do(viewer *http.Client, req *http.Request) (int, string, error) {
	resp, err := viewer.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// served checks that a tunnel works.
func served(t testing.TB, viewer *http.Client, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if status, body, err := get(ctx, viewer, url+"/echo?yes"); status != 200 || body != "yes" || err != nil {
		t.Fatalf("GET %s/echo?yes: %d %q %v", url, status, body, err)
	}
}

const uploadSize = 8 << 20

// upload sends content to /hash over about stayTime.
func upload(ctx context.Context, viewer *http.Client, url, query string) (int, string, error) {
	body := &paced{Reader: io.LimitReader(content(), uploadSize), piece: uploadSize / pieces, pause: stayTime / pieces}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/hash?"+query, body)
	if err != nil {
		return 0, "", err
	}
	return do(viewer, req)
}

// paced reads piece by piece with a pause before each.
type paced struct {
	io.Reader
	piece int
	pause time.Duration
}

func (p *paced) Read(b []byte) (int, error) {
	<-time.After(p.pause)
	return p.Reader.Read(b[:min(len(b), p.piece)])
}

// exchange is a request whose answer is waited for in the background.
type exchange struct {
	name   string
	status int
	body   string
	err    error
	took   time.Duration
	at     time.Time // when it was over
	done   chan struct{}
}

// inBackground makes an exchange of what f returns.
func inBackground(name string, f func() (int, string, error)) *exchange {
	e := &exchange{name: name, done: make(chan struct{})}
	begun := time.Now()
	go func() {
		defer close(e.done)
		e.status, e.body, e.err = f()
		e.at = time.Now()
		e.took = e.at.Sub(begun)
	}()
	return e
}

func (e *exchange) wait(t testing.TB, within time.Duration) *exchange {
	t.Helper()
	select {
	case <-e.done:
	case <-time.After(within):
		t.Fatalf("%s: no end within %v", e.name, within)
	}
	return e
}

// breaks waits for the end of an exchange, which must not look right.
func (e *exchange) breaks(t testing.TB) {
	t.Helper()
	if e.wait(t, patience); e.err == nil {
		t.Errorf("%s: the viewer got %d and %d bytes and then an end that looks right", e.name, e.status, len(e.body))
	}
}

// rawGet is a GET request in HTTP/1.0 or 1.1 on a connection of its own. Unlike
// an http.Client it shows how the connection has ended.
func rawGet(addr, version, path string) (int, string, error) {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return 0, "", err
	}
	defer c.Close()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/%s\r\nHost: %s\r\n\r\n", path, version, addr); err != nil {
		return 0, "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// probe sends a small request every interval, one after the other, until stop
// is called, which returns how long they took and what has failed.
func probe(t testing.TB, viewer *http.Client, url string, interval time.Duration) (stop func() ([]time.Duration, []string)) {
	ctx, cancel := context.WithCancel(t.Context())
	var took []time.Duration
	var failed []string
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for n := 0; ; n++ {
			begun := time.Now()
			query := fmt.Sprint("probe-", n)
			status, body, err := get(ctx, viewer, url+"/echo?"+query)
			took = append(took, time.Since(begun)) // of one that stop has ended, too
			if ctx.Err() != nil {
				return
			}
			if status != 200 || body != query || err != nil {
				failed = append(failed, fmt.Sprintf("%s: %d %q %v", query, status, tail(body, 200), err))
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	stop = func() ([]time.Duration, []string) {
		cancel()
		wg.Wait()
		return took, failed
	}
	t.Cleanup(func() { stop() })
	return stop
}

// none fails the test if there is anything in a list.
func none(t testing.TB, what string, list []string) {
	t.Helper()
	if len(list) > 0 {
		t.Errorf("%d %s, such as\n%s", len(list), what, strings.Join(list[:min(len(list), 10)], "\n"))
	}
}
