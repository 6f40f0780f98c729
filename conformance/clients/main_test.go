package clients

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

var table = harness.Table{Name: "programs"}

func TestMain(m *testing.M) { goleak.VerifyTestMain(table.Around(m)) }

// notMade stands in the table for what is not done directly.
const notMade = "–"

// patience bounds every wait: long enough for a busy machine, so that it ends
// only what would never have come.
const patience = 30 * time.Second

// program returns where the program with one of these names is. Daemons are
// in directories that are not on every user's PATH.
func program(t testing.TB, names ...string) string {
	t.Helper()
	for _, name := range names {
		for _, candidate := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
			if path, err := exec.LookPath(candidate); err == nil {
				return path
			}
		}
	}
	harness.Missing(t, strings.Join(names, " or "))
	return ""
}

// version returns the first version number in what a program says of itself.
func version(t testing.TB, path string, args ...string) string {
	t.Helper()
	o := run(t, nil, "", path, args...)
	return versionNumber.FindString(o.stdout + o.stderr)
}

var versionNumber = regexp.MustCompile(`\d+(\.\d+)+`)

// output is what a program left behind.
type output struct {
	stdout, stderr string
	code           int
}

// run runs a program to its end.
func run(t testing.TB, env []string, stdin, path string, args ...string) output {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = time.Second
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("%s %q: %v\n%s%s", filepath.Base(path), args, err, &stdout, &stderr)
	}
	return output{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// start runs a program until the test ends. It waits for a line of the
// program's output that matches ready and returns the matches in it.
func start(t testing.TB, ready *regexp.Regexp, path string, args ...string) []string {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pr, pw := io.Pipe()
	cmd.Stdout, cmd.Stderr = pw, pw
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	found := make(chan []string, 1)
	var said bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(pr)
		for lines.Scan() {
			if said.Len() < 1<<16 {
				said.WriteString(lines.Text() + "\n")
			}
			if m := ready.FindStringSubmatch(lines.Text()); m != nil {
				select {
				case found <- m:
				default:
				}
			}
		}
		io.Copy(io.Discard, pr)
	}()
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		pw.Close()
		close(exited)
	}()
	t.Cleanup(func() {
		// The whole group: these programs have children of their own.
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-exited
		<-read
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(path), &said)
		}
	})
	select {
	case m := <-found:
		return m
	case <-exited:
		t.Fatalf("%s has ended", path)
	case <-time.After(patience):
		t.Fatalf("%s is not ready", path)
	}
	return nil
}

// pair is the same handler at two URLs.
type pair struct {
	direct, tunnelled string
}

// newPair serves h directly and through a tunnel, both over plain HTTP or both
// over TLS, and with HTTP/1 and HTTP/2.
func newPair(t testing.TB, overTLS bool, h http.Handler) pair {
	t.Helper()
	s := harness.Start(t, harness.Options{TLS: overTLS})
	target := serve(t, false, h)
	return pair{
		direct:    serve(t, overTLS, underPrefix("/id", h)) + "/id",
		tunnelled: s.Target("id", target, tunnelclient.ProxyOptions{}),
	}
}

// underPrefix serves h below a path and tells it so, like a tunnel.
func underPrefix(prefix string, h http.Handler) http.Handler {
	return http.StripPrefix(prefix, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.RequestURI = strings.Replace(r.RequestURI, prefix, "", 1)
		r.Header.Set("X-Forwarded-Prefix", prefix)
		h.ServeHTTP(w, r)
	}))
}

// serve serves h with HTTP/1 and HTTP/2 and returns its URL.
func serve(t testing.TB, overTLS bool, h http.Handler) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	t.Cleanup(srv.Close)
	if overTLS {
		srv.EnableHTTP2 = true
		srv.TLS = &tls.Config{
			Certificates: []tls.Certificate{tunneltest.Certificate()},
			NextProtos:   []string{"h2", "http/1.1", "http/1.0"}, // the last for curl --http1.0
		}
		srv.StartTLS()
		return srv.URL
	}
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	return srv.URL
}

// normal takes out of s what differs for being at another URL.
func (p pair) normal(s string) string {
	for _, base := range []string{p.tunnelled, p.direct} {
		host := base[strings.Index(base, "://")+3:]
		s = strings.ReplaceAll(s, base, "BASE")
		host, _, _ = strings.Cut(host, "/")
		s = strings.ReplaceAll(s, host, "HOST")
	}
	return s
}

// compare reports where what came through the tunnel differs from what came
// directly.
func (p pair) compare(t testing.TB, direct, tunnelled string) {
	t.Helper()
	if d, g := p.normal(direct), p.normal(tunnelled); d != g {
		t.Errorf("through the tunnel:\n%.4000s\ndirectly:\n%.4000s", g, d)
	}
}

// caFile writes the certificate that the services here are believed by.
func caFile(t testing.TB) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ca.crt")
	b, _ := tunneltest.PEM(tunneltest.Certificate())
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// viewer returns an HTTP client of its own that believes the services here.
func viewer(t testing.TB, protocol string) *http.Client {
	tr := &http.Transport{
		DisableCompression:  true,
		MaxIdleConnsPerHost: 100,
		TLSClientConfig:     tunneltest.ClientTLS(),
		Protocols:           new(http.Protocols),
	}
	switch protocol {
	case "h2":
		tr.Protocols.SetHTTP2(true)
	case "h2c":
		tr.Protocols.SetUnencryptedHTTP2(true)
	default:
		tr.Protocols.SetHTTP1(true)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{
		Transport:     tr,
		Timeout:       patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
