package browser

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestFetchUploadStream: a request body that a script makes piece by piece
// reaches the target piece by piece. Browsers do that over HTTP/2 only.
func TestFetchUploadStream(t *testing.T) {
	pieces := make(chan string, 10)
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", blank)
	mux.HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) {
		p := make([]byte, 100)
		total := 0
		for {
			n, err := r.Body.Read(p)
			if n > 0 {
				pieces <- string(p[:n])
				total += n
			}
			if err != nil {
				fmt.Fprint(w, total, " ", err)
				return
			}
		}
	})
	mux.HandleFunc("/piece", func(w http.ResponseWriter, r *http.Request) {
		select {
		case p := <-pieces:
			io.WriteString(w, p)
		case <-r.Context().Done():
		}
	})
	target := httptest.NewServer(mux)
	t.Cleanup(target.Close)
	s := harness.Start(t, harness.Options{TLS: true})
	url := s.Target("id", target.URL, tunnelclient.ProxyOptions{})
	tb := newTab(t)
	tb.open(url + "/")
	passed(t, "fetch with a streamed body", "https")
	if !js[bool](tb, `
		let asked = false;
		const probe = new Request('upload', { method: 'POST', body: new ReadableStream(), get duplex() { asked = true; return 'half'; } });
		return asked && !probe.headers.has('Content-Type');
	`) {
		t.Skip("*** SKIPPED: this browser cannot stream uploads")
	}
	got := js[string](tb, `
		let controller;
		const body = new ReadableStream({ start(c) { controller = c; } }).pipeThrough(new TextEncoderStream());
		const answer = fetch('upload', { method: 'POST', body, duplex: 'half' });
		for (let i = 0; i < 10; i++) {
			controller.enqueue('piece ' + i);
			// The target has this one before there is a next.
			const seen = await (await fetch('piece')).text();
			if (seen !== 'piece ' + i) throw new Error('piece ' + i + ' is ' + seen);
		}
		controller.close();
		return (await answer).text();
	`)
	if want := "70 EOF"; got != want {
		t.Errorf("the target saw %q, want %q", got, want)
	}
}

// TestFetchAbort: when a script aborts a fetch, the target learns it within a
// second, whatever the phase.
func TestFetchAbort(t *testing.T) {
	for scheme, want := range schemes {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			passed(t, "fetch aborted", scheme)
			began, left := make(chan struct{}, 1), make(chan time.Time, 1)
			mux := http.NewServeMux()
			mux.HandleFunc("/{$}", blank)
			mux.HandleFunc("/silent", func(_ http.ResponseWriter, r *http.Request) {
				began <- struct{}{}
				<-r.Context().Done()
				left <- time.Now()
			})
			mux.HandleFunc("/idle", func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintln(w, "begun")
				w.(http.Flusher).Flush()
				began <- struct{}{}
				<-r.Context().Done()
				left <- time.Now()
			})
			mux.HandleFunc("/busy", func(w http.ResponseWriter, r *http.Request) {
				began <- struct{}{}
				p := []byte(strings.Repeat("x", 10_000))
				for r.Context().Err() == nil {
					w.Write(p)
				}
				left <- time.Now()
			})
			mux.HandleFunc("/upload", func(_ http.ResponseWriter, r *http.Request) {
				io.CopyN(io.Discard, r.Body, 100_000)
				began <- struct{}{}
				for _, err := r.Body.Read(make([]byte, 100)); err == nil; {
					select {
					case <-r.Context().Done():
						err = r.Context().Err()
					default:
						_, err = r.Body.Read(make([]byte, 100_000))
					}
				}
				left <- time.Now()
			})
			mux.HandleFunc("/began", func(_ http.ResponseWriter, r *http.Request) {
				select {
				case <-began:
				case <-r.Context().Done():
				}
			})
			target := httptest.NewServer(mux)
			t.Cleanup(target.Close)
			s := harness.Start(t, harness.Options{TLS: want.tls})
			url := s.Target("id", target.URL, tunnelclient.ProxyOptions{})
			tb := newTab(t)
			tb.open(url + "/")

			for _, tc := range []struct {
				name, path, options string
				answered            bool
			}{
				{"before the answer", "silent", "{}", false},
				{"idle answer", "idle", "{}", true},
				{"busy answer", "busy", "{}", true},
				{"upload", "upload", "{ method: 'POST', body: new Blob([new Uint8Array(200e6)]) }", false},
			} {
				// Where there is an answer, its first bytes are read before the
				// fetch is aborted. Between headers and body, Chromium keeps
				// the connection for 5 s more, with or without a tunnel; on a
				// busy machine now and then after the first bytes too.
				limit := time.Second
				if tc.answered {
					limit += 5 * time.Second
				}
				got := js[string](tb, fmt.Sprintf(`
					const abort = new AbortController();
					const answer = fetch(args[0], { ...%s, signal: abort.signal });
					answer.catch(() => {});
					await fetch('began');
					if (!args[1]) {
						abort.abort();
						return answer.then(() => 'an answer', (error) => error.name);
					}
					const reader = (await answer).body.getReader();
					await reader.read();
					abort.abort();
					for (;;) {
						try {
							if ((await reader.read()).done) return 'the end';
						} catch (error) {
							return error.name;
						}
					}
				`, tc.options), tc.path, tc.answered)
				aborted := time.Now()
				if got != "AbortError" {
					t.Errorf("%s: the script got %q", tc.name, got)
				}
				select {
				case at := <-left:
					if late := at.Sub(aborted); late > limit {
						t.Errorf("%s: the target learned it after %v", tc.name, late)
					}
				case <-time.After(patience):
					t.Errorf("%s: the target never learned it", tc.name)
				}
			}
		})
	}
}

// TestFetchBroken: an answer that the target breaks off is an error for the
// script, not a short answer.
func TestFetchBroken(t *testing.T) {
	for scheme, want := range schemes {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			passed(t, "fetch of what breaks off", scheme)
			mux := http.NewServeMux()
			mux.HandleFunc("/{$}", blank)
			mux.HandleFunc("/length", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "100")
				fmt.Fprint(w, "some")
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			})
			mux.HandleFunc("/chunked", func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprint(w, "some")
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			})
			target := httptest.NewServer(mux)
			t.Cleanup(target.Close)
			s := harness.Start(t, harness.Options{TLS: want.tls})
			url := s.Target("id", target.URL, tunnelclient.ProxyOptions{})
			tb := newTab(t)
			tb.open(url + "/")
			for _, path := range []string{"length", "chunked"} {
				if got := js[string](tb, `return fetch(args[0]).then((r) => r.text()).catch((error) => error.name)`, path); got != "TypeError" {
					t.Errorf("%s: got %q", path, got)
				}
			}
		})
	}
}
