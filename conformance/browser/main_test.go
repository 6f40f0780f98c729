package browser

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"go.uber.org/goleak"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
)

// patience bounds every wait: long enough for a busy machine, so that it ends
// only what would never have come.
const patience = 30 * time.Second

// Viewer domains, which lead the browser to this machine.
const (
	ownDomain = "tunnels.test"
	// publicSuffix is one that the browser knows from the Public Suffix List.
	publicSuffix = "github.io"
)

var table = harness.Table{Name: "browsers"}

// passed tells the table, when the test is over, that it has found through a
// tunnel what it wants. There is nothing that would be done directly.
func passed(t *testing.T, exchange, with string) {
	table.Passed(t, "Chromium", exchange, with, "–", "passed")
}

func TestMain(m *testing.M) {
	code := table.Around(m).Run()
	stopBrowser()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// stopBrowser ends the browser if there is one.
var stopBrowser = func() {}

// startBrowser starts the one browser of all tests. Its context is nil where
// there is none to start.
var startBrowser = sync.OnceValues(func() (context.Context, error) {
	var path string
	var err error
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err = exec.LookPath(name); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	if out, err := exec.Command(path, "--version").Output(); err == nil {
		table.Program("Chromium", regexp.MustCompile(`\d+(\.\d+)+`).FindString(string(out)))
	}
	key := sha256.Sum256(tunneltest.Certificate().Leaf.RawSubjectPublicKeyInfo)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("host-resolver-rules", "MAP *."+ownDomain+" 127.0.0.1, MAP *."+publicSuffix+" 127.0.0.1"),
		// The services' certificate is as good as one of a known authority.
		chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(key[:])),
	)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	stopBrowser = func() {
		limited, stop := context.WithTimeout(ctx, patience)
		chromedp.Cancel(limited)
		stop()
		cancel()
		stopAllocator()
	}
	return ctx, chromedp.Do(ctx)
})

// tab is a page of the browser, with cookies, storage and connections that it
// shares with no other tab.
type tab struct {
	t   testing.TB
	ctx context.Context
}

func newTab(t testing.TB) *tab {
	t.Helper()
	browser, err := startBrowser()
	switch {
	case browser == nil:
		harness.Missing(t, "chromium")
	case err != nil:
		t.Fatal("chromium: ", err)
	}
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	t.Cleanup(func() {
		defer cancel()
		limited, stop := context.WithTimeout(ctx, patience)
		defer stop()
		chromedp.Cancel(limited)
	})
	tb := &tab{t, ctx}
	if err := chromedp.Do(ctx); err != nil { // without a deadline, which would be the tab's
		t.Fatal(err)
	}
	return tb
}

// open goes to a page.
func (tb *tab) open(url string) {
	tb.t.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	resp, err := chromedp.Run(ctx, chromedp.NavigateResponse(url))
	if err != nil {
		tb.t.Fatal("opening ", url, ": ", err)
	}
	if resp.Status != http.StatusOK {
		tb.t.Fatalf("%s: status %d", url, resp.Status)
	}
}

// js runs the body of an async function, which finds its arguments in args,
// and returns what that returns.
func js[T any](tb *tab, body string, args ...any) T {
	tb.t.Helper()
	result, err := tryJS[T](tb, body, args...)
	if err != nil {
		tb.t.Fatal(err)
	}
	return result
}

func tryJS[T any](tb *tab, body string, args ...any) (T, error) {
	tb.t.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	if args == nil {
		args = []any{}
	}
	encoded, err := json.Marshal(args)
	if err != nil {
		tb.t.Fatal(err)
	}
	expression := fmt.Sprintf("(async (...args) => {%s\n})(...%s)", body, encoded)
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// blank is a page to run scripts on.
func blank(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprint(w, `<!doctype html><title>blank</title><link rel="icon" href="data:,">`)
}

// countedListener makes the service listen at one more address, and counts the
// connections there.
func countedListener(t testing.TB, s *harness.Service) (addr string, count *atomic.Int32) {
	t.Helper()
	ln := &counted{Listener: tunneltest.Listen(t)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Server.Serve(ln)
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String(), &ln.count
}

type counted struct {
	net.Listener
	count atomic.Int32
}

func (c *counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.count.Add(1)
	}
	return conn, err
}

// schemes are the ways of a page to the service. What Chromium calls the
// version of HTTP is in the values.
var schemes = map[string]struct {
	tls     bool
	version string
}{
	"http":  {false, "http/1.1"},
	"https": {true, "h2"},
}

// version returns the version of HTTP that brought the page.
func (tb *tab) version() string {
	tb.t.Helper()
	return js[string](tb, `return performance.getEntriesByType('navigation')[0].nextHopProtocol`)
}
