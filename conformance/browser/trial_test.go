package browser

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// trial is a service, as a process, with a fleet of tunnels under load.
type trial struct {
	*testing.T
	program, log  string // files
	viewers, opes string // URLs of its listeners
}

const (
	trialTunnels = 1000
	trialSecret  = "0123456789abcdef0123456789abcdef"
)

// TestTrial: among 1,000 tunnels under load, an operator finds one that breaks answers
// off, one whose target is down, and one that flaps, and deals with them: from the page
// alone, from the command line alone, and from metrics and log alone. With -v it prints
// what the operator sees.
//
//	WST_LONG=1 go test -tags http2legacy -run TestTrial -v ./browser
func TestTrial(t *testing.T) {
	if os.Getenv("WST_LONG") == "" {
		t.Skip("a trial of some minutes: with WST_LONG=1")
	}
	tr := startTrial(t)
	t.Run("page", func(t *testing.T) { tr.trouble(t, "page", 1, tr.byPage) })
	t.Run("commands", func(t *testing.T) { tr.trouble(t, "commands", 2, tr.byCommands) })
	t.Run("metrics and log", func(t *testing.T) { tr.trouble(t, "metrics", 3, tr.byLog) })
}

// startTrial starts the service, the tunnels that behave well, and viewers.
func startTrial(t *testing.T) *trial {
	dir := t.TempDir()
	tr := &trial{T: t, program: filepath.Join(dir, "websocktunnel"), log: filepath.Join(dir, "log")}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-C", "../..", "-o", tr.program, "./cmd/websocktunnel").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	log, err := os.Create(tr.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	service := exec.Command(tr.program)
	service.Stdout, service.Stderr = log, log
	service.Env = append(os.Environ(), "URL_PREFIX=http://localhost", "LISTEN_ADDR=127.0.0.1", "PORT=0", "ADMIN_ADDR=127.0.0.1:0",
		"ACCESS_LOG=json", "LOG_FORMAT=json", "DRAIN_TIMEOUT=1", "TASKCLUSTER_PROXY_SECRET_A="+trialSecret)
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		service.Process.Signal(os.Interrupt)
		service.Wait()
	})
	address := func(message string) (url string) {
		found := tunneltest.Poll(patience, func() bool {
			for line := range tr.lines(message) {
				url = "http://" + line["listen"].(string)
			}
			return url != ""
		})
		if !found {
			t.Fatal("the service does not start")
		}
		return url
	}
	tr.viewers, tr.opes = address("serving"), address("admin listener")

	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	for n := range trialTunnels {
		running.Go(func() { tr.client(ctx, fmt.Sprintf("build-%04d", n), hello, nil) })
	}
	if !tunneltest.Poll(2*time.Minute, func() bool {
		return strings.Contains(tr.metrics(), fmt.Sprintf("websocktunnel_tunnels %d\n", trialTunnels))
	}) {
		t.Fatal("the tunnels do not connect")
	}
	running.Go(func() {
		tr.view(ctx, 10*time.Millisecond, func() string { return fmt.Sprintf("build-%04d", rand.IntN(trialTunnels)) })
	})
	return tr
}

// client runs a tunnel client until ctx ends, or it is told to stop. dial may be nil.
func (tr *trial) client(ctx context.Context, id string, h http.Handler, dial func(context.Context, string, string) (net.Conn, error)) error {
	token, err := server.MintToken([]byte(trialSecret), server.Claims{ID: id, TTL: time.Hour})
	if err != nil {
		return err
	}
	transport := &http.Transport{DialContext: dial}
	defer transport.CloseIdleConnections()
	c, err := tunnelclient.New(tunnelclient.Config{
		ServerURL: tr.viewers, ID: id, Tokens: tunnelclient.StaticToken(token), Logger: zerolog.Nop(), HTTPClient: &http.Client{Transport: transport},
	})
	if err != nil {
		return err
	}
	return c.Serve(ctx, h)
}

// view asks for tunnels, one after the other, until ctx ends.
func (tr *trial) view(ctx context.Context, every time.Duration, id func() string) {
	viewer := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}, Timeout: 10 * time.Second}
	defer viewer.CloseIdleConnections()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if resp, err := viewer.Get(tr.viewers + "/" + id() + "/"); err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
}

// trouble runs the operator's part while three tunnels make trouble, whose ids end in
// name. It waits until so many have flapped, with those of the parts before.
func (tr *trial) trouble(t *testing.T, name string, flapped int, operator func(t *testing.T, breaks, down, flaps string)) {
	breaks, down, flaps := "breaks-"+name, "down-"+name, "flaps-"+name
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer func() { cancel(); running.Wait() }()
	running.Go(func() {
		tr.client(ctx, breaks, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "the beginning")
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}), nil)
	})
	gone := tunneltest.Listen(t)
	gone.Close()
	proxy := tunneltest.ProxyTo(t, gone.Addr().String(), tunnelclient.ProxyOptions{Logger: zerolog.Nop()})
	running.Go(func() { tr.client(ctx, down, proxy, nil) })
	running.Go(func() { // killed and started again, until it is told to stop
		for ctx.Err() == nil {
			life, end := context.WithTimeout(ctx, 3*time.Second)
			err := tr.client(life, flaps, http.NotFoundHandler(), func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
				if err == nil {
					context.AfterFunc(life, func() { c.Close() })
				}
				return c, err
			})
			end()
			if err != nil {
				return
			}
		}
	})
	for _, id := range []string{breaks, down} {
		running.Go(func() { tr.view(ctx, 300*time.Millisecond, func() string { return id }) })
	}
	if !tunneltest.Poll(time.Minute, func() bool {
		return strings.Contains(tr.metrics(), fmt.Sprintf("websocktunnel_flapping_tunnels %d\n", flapped))
	}) {
		t.Error("nothing flaps")
	}
	operator(t, breaks, down, flaps)
	if !tunneltest.Poll(patience, func() bool {
		out := tr.command(t, "tunnels", "--state", "connected", "--search", name)
		return !strings.Contains(out, breaks) && !strings.Contains(out, flaps) && strings.Contains(out, down)
	}) {
		t.Error("the evicted ones are here still, or more have gone")
	}
	cancel()
	running.Wait()
	for _, id := range []string{breaks, down, flaps} { // so that the next part begins anew
		tr.command(t, "evict", id)
	}
}

// byPage is the part of an operator with nothing but the page.
func (tr *trial) byPage(t *testing.T, breaks, down, flaps string) {
	tb := newTab(t)
	tb.open(tr.opes + "/")
	first := func(sort string, n int) []string {
		return js[[]string](tb, `const th = document.querySelector('[data-sort=`+sort+`]');
			while (th.parentElement.getAttribute('aria-sort') !== 'descending') th.click();
			`+until(fmt.Sprintf(`document.querySelector('#rows td:nth-child(%d)')?.textContent > 0`, map[string]int{"failed_requests": 3, "reconnects": 4}[sort]))+`
			return [...document.querySelectorAll('#rows tr')].slice(0, args[0]).map(tr => [...tr.children].slice(0, 5).map(td => td.textContent).join(' | '));`, n)
	}
	details := func(id, expect string) {
		tb.t.Helper()
		text := js[string](tb, `[...document.querySelectorAll('#rows button')].find(b => b.dataset.id === args[0]).click();
			`+until(`document.querySelector('#detail-body').textContent.includes(args[1])`)+`
			return document.querySelector('#detail-body').innerText;`, id, expect)
		t.Logf("details of %s:\n%s", id, text)
	}
	evict := func() {
		js[any](tb, `document.querySelector('#evict').click(); document.querySelector('#yes').click();`+until(`!document.querySelector('#detail').open`))
	}
	failing := first("failed_requests", 2)
	t.Logf("sorted by Failed:\n%s", strings.Join(failing, "\n"))
	if all := strings.Join(failing, "\n"); !strings.Contains(all, breaks) || !strings.Contains(all, down) {
		t.Errorf("by failures: %q", failing)
	}
	details(down, "WT-TARGET-REFUSED") // its owner has to see to it
	js[any](tb, `document.querySelector('#close').click()`)
	details(breaks, "WT-TARGET-BROKE")
	evict()
	flapping := first("reconnects", 1)
	t.Logf("sorted by Reconnects:\n%s", flapping[0])
	if !strings.HasPrefix(flapping[0], flaps) {
		t.Errorf("by reconnects: %q", flapping)
	}
	details(flaps, "lost")
	evict()
	blocked := js[string](tb, until(`document.querySelectorAll('#blocked-ids li').length === 2`)+`return document.querySelector('#blocked-ids').innerText`)
	t.Logf("blocked:\n%s", blocked)
}

// byCommands is the part of an operator with nothing but the command line.
func (tr *trial) byCommands(t *testing.T, breaks, down, flaps string) {
	for _, step := range []struct {
		command string
		want    []string
	}{
		{"tunnels --state connected --sort=-failed_requests --limit 3", []string{breaks, down}},
		{"show " + down, []string{`502 +target +connection_refused +WT-TARGET-REFUSED`}},
		{"show " + breaks, []string{`200 +target +http_response_incomplete +WT-TARGET-BROKE`}},
		{"evict " + breaks, []string{breaks + " evicted"}},
		{"tunnels --sort=-reconnects --limit 3", []string{flaps}},
		{"show " + flaps, []string{`reconnects +[5-9]|reconnects +\d\d`, `last end +\d+s ago: lost`}},
		{"evict " + flaps, []string{flaps + " evicted"}},
		{"evicted", []string{breaks, flaps}},
	} {
		out := tr.command(t, strings.Fields(step.command)...)
		t.Logf("$ websocktunnel admin %s\n%s", step.command, out)
		for _, want := range step.want {
			if !regexp.MustCompile(want).MatchString(out) {
				t.Errorf("%s: there is no %s", step.command, want)
			}
		}
	}
}

// byLog is the part of an operator with nothing but metrics and log, who needs the
// command line only to evict.
func (tr *trial) byLog(t *testing.T, breaks, down, flaps string) {
	for line := range strings.Lines(tr.metrics()) {
		if regexp.MustCompile(`^websocktunnel_(failures_total|requests_total\{.*failed_hop="(client|target)"|reconnects_total|flapping|session_ends_total).* [1-9]\d*\n`).MatchString(line) {
			t.Log(strings.TrimSpace(line))
		}
	}
	count := map[string]map[string]int{} // by what and id
	for line := range tr.lines("") {
		what, id := fmt.Sprint(line["failed_hop"], " ", line["error_code"]), fmt.Sprint(line["id"])
		if !strings.HasSuffix(id, "-metrics") {
			continue
		}
		if line["event"] == "registered" && line["reconnects"] != nil {
			what = fmt.Sprint("reconnects after ", line["after"])
		}
		if count[what] == nil {
			count[what] = map[string]int{}
		}
		count[what][id]++
	}
	t.Log(count)
	ids := func(of string) (ids []string) {
		for what, by := range count {
			for id := range by {
				if strings.HasPrefix(what, of) {
					ids = append(ids, id)
				}
			}
		}
		return slices.Compact(slices.Sorted(slices.Values(ids)))
	}
	for of, want := range map[string]string{"target WT-TARGET-BROKE": breaks, "target WT-TARGET-REFUSED": down, "reconnects after lost": flaps} {
		if got := ids(of); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %q, want %s", of, got, want)
		}
	}
	tr.command(t, "evict", breaks)
	tr.command(t, "evict", flaps)
}

// command runs websocktunnel admin and returns its output.
func (tr *trial) command(t *testing.T, args ...string) string {
	cmd := exec.CommandContext(t.Context(), tr.program, append([]string{"admin", "--admin-addr", tr.opes}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Run()
	return out.String()
}

// metrics returns what /metrics has.
func (tr *trial) metrics() string {
	resp, err := http.Get(tr.opes + "/metrics")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

// lines are those of the log with a message; empty: all.
func (tr *trial) lines(message string) func(yield func(map[string]any) bool) {
	return func(yield func(map[string]any) bool) {
		f, err := os.Open(tr.log)
		if err != nil {
			tr.Fatal(err)
		}
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			var line map[string]any
			if json.Unmarshal(s.Bytes(), &line) == nil && (message == "" || line["message"] == message) && !yield(line) {
				return
			}
		}
	}
}
