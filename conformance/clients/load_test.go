package clients

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
)

// page answers with as many bytes as its path says. Load generators compare
// lengths, so all of a path's answers are of one.
func page(w http.ResponseWriter, r *http.Request) {
	size, _ := strconv.Atoi(r.URL.Path[1:])
	w.Header().Set("Content-Length", strconv.Itoa(size))
	w.Write(make([]byte, size))
}

// with names in the table whether TLS was used.
var with = map[bool]string{false: "plain", true: "TLS"}

var (
	wrkRequests = regexp.MustCompile(`(\d+) requests in `)
	wrkErrors   = regexp.MustCompile(`Socket errors:.*|Non-2xx.*`)
	abComplete  = regexp.MustCompile(`Complete requests: +(\d+)`)
	abFailed    = regexp.MustCompile(`(Failed requests|Write errors): +[1-9].*|Non-2xx.*`)
)

// TestWrk: no request of wrk's fails, with and without keep-alive, over plain
// HTTP and TLS.
func TestWrk(t *testing.T) {
	wrk := program(t, "wrk")
	table.Program("wrk", version(t, wrk, "-v"))
	for _, overTLS := range []bool{false, true} {
		p := newPair(t, overTLS, http.HandlerFunc(page))
		for _, tc := range []struct {
			name string
			size int
			args []string
		}{
			{"keep-alive", 200, nil},
			{"large answers", 100_000, nil},
			{"no keep-alive", 200, []string{"-H", "Connection: close"}},
		} {
			t.Run(fmt.Sprintf("%s, TLS %t", tc.name, overTLS), func(t *testing.T) {
				table.Passed(t, "wrk", tc.name, with[overTLS], "none fails", harness.Same)
				args := append([]string{"-t", "1", "-c", "20", "-d", "1s", "--timeout", "20s"}, tc.args...)
				for _, url := range []string{p.direct, p.tunnelled} {
					o := run(t, nil, "", wrk, append(args, fmt.Sprintf("%s/%d", url, tc.size))...)
					m := wrkRequests.FindStringSubmatch(o.stdout)
					if wrong := wrkErrors.FindString(o.stdout); wrong != "" || o.code != 0 || m == nil || m[1] == "0" {
						t.Fatalf("%s: exit %d, %s\n%s%s", url, o.code, wrong, o.stdout, o.stderr)
					}
					t.Logf("%s: %s requests", url, m[1])
				}
			})
		}
	}
}

// TestApacheBench: no request of ab's fails. It speaks HTTP/1.0, with a
// keep-alive of its time.
func TestApacheBench(t *testing.T) {
	ab := program(t, "ab")
	table.Program("ab", version(t, ab, "-V"))
	body := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(body, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, overTLS := range []bool{false, true} {
		p := newPair(t, overTLS, http.HandlerFunc(page))
		for _, tc := range []struct {
			name string
			args []string
		}{
			{"keep-alive", []string{"-k"}},
			{"no keep-alive", nil},
			{"POST", []string{"-k", "-p", body, "-T", "text/plain"}},
			{"HEAD", []string{"-k", "-i"}},
		} {
			t.Run(fmt.Sprintf("%s, TLS %t", tc.name, overTLS), func(t *testing.T) {
				const n = 500
				table.Passed(t, "ab", tc.name, with[overTLS], "none fails", harness.Same)
				args := append([]string{"-q", "-n", strconv.Itoa(n), "-c", "20", "-s", "20"}, tc.args...)
				for _, url := range []string{p.direct, p.tunnelled} {
					o := run(t, nil, "", ab, append(args, url+"/500")...)
					m := abComplete.FindStringSubmatch(o.stdout)
					if wrong := abFailed.FindString(o.stdout); wrong != "" || o.code != 0 || m == nil || m[1] != strconv.Itoa(n) {
						t.Fatalf("%s: exit %d, %s\n%s%s", url, o.code, wrong, o.stdout, o.stderr)
					}
				}
			})
		}
	}
}
