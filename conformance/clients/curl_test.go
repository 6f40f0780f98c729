package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
)

// curlRow is one run of curl, made directly and through a tunnel.
type curlRow struct {
	name  string
	path  string
	args  []string
	stdin string

	// same, if set, takes out of an output what may differ.
	same func(version, output string) string
	// only limits the row to these versions.
	only string
}

// TestCurl runs every row with every version of HTTP that curl can ask for.
func TestCurl(t *testing.T) {
	curl := program(t, "curl")
	table.Program("curl", version(t, curl, "-q", "--version"))
	dir := t.TempDir()
	upload := filepath.Join(dir, "upload")
	if err := os.WriteFile(upload, []byte(strings.Repeat("0123456789abcde\n", 2<<20/16)), 0o600); err != nil {
		t.Fatal(err)
	}
	small := filepath.Join(dir, "small")
	if err := os.WriteFile(small, text, 0o600); err != nil {
		t.Fatal(err)
	}
	ca := caFile(t)

	rows := []curlRow{
		{name: "GET", path: "/echo/"},
		{name: "HEAD", path: "/file", args: []string{"-I"}},
		{name: "HEAD of chunks", path: "/chunks", args: []string{"-I"}},
		{name: "odd path", path: "/echo/a/../b//c%2F%00;d?x=1;y=%zz&&", args: []string{"--path-as-is", "-g"}},
		{name: "headers", path: "/echo/", args: []string{"-H", "X-A: 1", "-H", "X-A: 2", "-H", "X-Empty;", "-A", "", "-b", "a=1; b=2", "-e", "http://elsewhere.example/"}},
		{name: "POST form", path: "/echo/", args: []string{"-d", "a=1&b=2"}},
		{name: "POST multipart", path: "/echo/", args: []string{"-F", "a=1", "-F", "f=@" + small}, same: cutMultipart},
		{name: "POST empty", path: "/echo/", args: []string{"-d", ""}},
		{name: "DELETE", path: "/echo/", args: []string{"-X", "DELETE"}},
		{name: "PATCH", path: "/echo/", args: []string{"-X", "PATCH", "-d", "x"}},
		{name: "OPTIONS", path: "/echo/", args: []string{"-X", "OPTIONS"}},
		{name: "unknown method", path: "/echo/", args: []string{"-X", "FROBNICATE"}},
		{name: "GET with a body", path: "/echo/", args: []string{"-X", "GET", "-d", "x"}},
		{name: "upload with length", path: "/echo/up", args: []string{"-T", small}},
		{name: "upload in chunks", path: "/echo/up", args: []string{"-T", "-"}, stdin: strings.Repeat("chunk ", 50_000)},
		{name: "upload of 2 MB, expecting 100", path: "/echo/up", args: []string{"-T", upload}},
		{name: "upload of 2 MB, not expecting 100", path: "/echo/up", args: []string{"-H", "Expect:", "-T", upload}},
		{name: "upload of 2 MB, refused", path: "/refuse", args: []string{"-T", upload}, only: "http1.1"}, // over HTTP/2, curl 7.88 and net/http race with each other
		{name: "range", path: "/file", args: []string{"-r", "100-199"}},
		{name: "last bytes", path: "/file", args: []string{"-r", "-10"}},
		{name: "range out of bounds", path: "/file", args: []string{"-r", "1000000-"}},
		{name: "HEAD of a range", path: "/file", args: []string{"-I", "-r", "0-9"}},
		{name: "resume", path: "/file", args: []string{"-C", "59000"}},
		{name: "not modified", path: "/file", args: []string{"-H", `If-None-Match: "v1"`}},
		{name: "not modified since", path: "/file", args: []string{"-z", "Sun, 01 Jan 2017 00:00:00 GMT"}},
		{name: "compressed", path: "/gzip", args: []string{"--compressed"}},
		{name: "compressed and left so", path: "/gzip", args: []string{"-H", "Accept-Encoding: gzip"}},
		{name: "not compressed", path: "/gzip"},
		{name: "trailers", path: "/trailers"},
		{name: "chunks", path: "/chunks", args: []string{"-N"}},
		// Not to HTTP/1.0, which does not know them (RFC 9110, section 15.2):
		// net/http, as the target here, sends them all the same.
		{name: "interim answers", path: "/hints", only: "http1.1 http2 http2-prior-knowledge"},
		{name: "204", path: "/status/204"},
		{name: "205", path: "/status/205"},
		{name: "304", path: "/status/304"},
		{name: "401", path: "/status/401"},
		{name: "404", path: "/status/404"},
		{name: "404 that fails", path: "/status/404", args: []string{"-f"}},
		{name: "502 of the target", path: "/status/502"},
		{name: "redirect", path: "/redirect"},
		{name: "redirect followed", path: "/redirect", args: []string{"-L"}},
		{name: "redirect of a POST followed", path: "/redirect?code=307", args: []string{"-L", "-d", "again"}},
		{name: "authentication", path: "/auth", args: []string{"--anyauth", "-u", "u:p"}},
		{name: "cookies kept", path: "/cookies", args: []string{"-c", "-", "-b", "x=1"}},
		{name: "broken answer", path: "/broken", same: func(_, s string) string {
			// How much curl hands on before it sees the error is a matter of
			// chance. That it sees one is not.
			code, _, _ := strings.Cut(s, "\n")
			return strings.NewReplacer("92", "18", "56", "18").Replace(code)
		}},
		{name: "websocket", path: "/ws?hello", only: "http1.1", args: []string{
			"-N", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13",
			"-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "-H", "Sec-WebSocket-Protocol: chat.v1",
		}},
		{name: "websocket refused", path: "/ws?refuse", only: "http1.1", args: []string{
			"-N", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13",
			"-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
		}},
	}

	for _, overTLS := range []bool{false, true} {
		p := newPair(t, overTLS, site())
		versions := []string{"http1.0", "http1.1", "http2", "http2-prior-knowledge"}
		if overTLS {
			versions = []string{"http1.0", "http1.1", "http2"}
		}
		for _, version := range versions {
			for _, row := range rows {
				if row.only != "" && !strings.Contains(" "+row.only+" ", " "+version+" ") {
					continue
				}
				name := fmt.Sprintf("%s/%s", map[bool]string{false: "plain", true: "TLS"}[overTLS], version)
				t.Run(name+"/"+row.name, func(t *testing.T) {
					t.Parallel()
					one := func(base string) string {
						head := filepath.Join(t.TempDir(), "head")
						args := append([]string{"-q", "-sS", "--" + version, "--cacert", ca, "--noproxy", "*", "-D", head,
							"-w", "\n%{http_version} %{num_connects} %{num_redirects}"}, row.args...)
						o := run(t, nil, row.stdin, curl, append(args, base+row.path)...)
						h, _ := os.ReadFile(head)
						s := fmt.Sprintf("exit %d\n%s\n%s", o.code, sortedLines(string(h)), o.stdout)
						if row.same != nil {
							s = row.same(version, s)
						}
						return s
					}
					direct := one(p.direct)
					if strings.HasPrefix(direct, "exit 35\n") { // else two of these would be the same
						t.Fatal("no TLS connection: ", direct)
					}
					p.compare(t, direct, one(p.tunnelled))
					table.Passed(t, "curl", row.name, name, curlResult(direct), harness.Same)
				})
			}
		}
	}
}

// curlResult is curl's exit status, if it is not 0, and the last status that
// it got.
func curlResult(s string) string {
	exit, _, _ := strings.Cut(s, "\n")
	result := ""
	if m := statusLine.FindAllStringSubmatch(s, -1); m != nil {
		result = m[len(m)-1][1]
	}
	if exit != "exit 0" {
		result = strings.Trim(result+", "+exit, ", ")
	}
	return result
}

var statusLine = regexp.MustCompile(`(?m)^HTTP/[0-9.]+ (\d+)`)

func cutMultipart(_, s string) string {
	// A boundary is random, and so is the hash of what has it.
	return boundary.ReplaceAllString(s, "")
}

var boundary = regexp.MustCompile(`(boundary=-+\w+|"SHA256": "\w+")`)
