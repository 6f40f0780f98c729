package browser

import (
	"context"
	"flag"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/websocktunnel/websocktunnel/internal/admin"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
)

// manyTunnels is a service with many tunnels, to be looked at.
type manyTunnels struct {
	mu   sync.Mutex
	here map[string]server.TunnelInfo
	gone []server.TunnelInfo
	sent int64

	evicted []string
}

func newManyTunnels(n int) *manyTunnels {
	m := &manyTunnels{here: make(map[string]server.TunnelInfo)}
	m.gone = []server.TunnelInfo{{
		ID: "nightly-7", RemoteAddr: "198.51.100.9:40112", Gone: true, Reconnects: 23, LastEnd: time.Now().Add(-12 * time.Second), LastEndReason: "lost",
		ConnectedAt: time.Now().Add(-30 * time.Second), TokenExpires: time.Now().Add(time.Hour), RoundTrip: 31 * time.Millisecond,
	}}
	for i := range n {
		id := fmt.Sprintf("build-%05d", i)
		m.here[id] = server.TunnelInfo{
			ID: id, RemoteAddr: fmt.Sprintf("203.0.113.%d:50000", i%250), InFlight: i % 7, Sent: int64(i) * 10_000, Received: int64(i) * 300,
			RoundTrip: time.Duration(9+i%23) * time.Millisecond, Failed: uint64(max(0, i%13-9)), Replacements: uint64(i % 5 / 4),
			ConnectedAt: time.Now().Add(-time.Hour), TokenExpires: time.Now().Add(time.Hour),
		}
	}
	return m
}

func (m *manyTunnels) Status() server.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent += 1 << 20
	return server.Status{
		Tunnels: len(m.here), Flapping: len(m.gone), InFlight: 12, Slots: 200 * len(m.here), Connections: 214, MaxConnections: 50_000,
		Held: 17 << 20, MaxHeld: 512 << 20, Received: m.sent / 30, Sent: m.sent, Sessions: map[string]int{"active": len(m.here)},
	}
}

func (m *manyTunnels) Tunnels() iter.Seq[server.TunnelInfo] {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Values(slices.Collect(maps.Values(m.here)))
}

func (m *manyTunnels) Gone() iter.Seq[server.TunnelInfo] { return slices.Values(m.gone) }

func (m *manyTunnels) Tunnel(id string) (server.TunnelDetails, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.here[id]
	for _, g := range m.gone {
		if g.ID == id {
			return server.TunnelDetails{ID: id, Gone: &g}, true
		}
	}
	return server.TunnelDetails{
		ID: id, Active: &t, Sessions: []server.SessionInfo{{RemoteAddr: t.RemoteAddr, State: "active", ConnectedAt: t.ConnectedAt}},
		Failures: []server.RequestFailure{{Time: time.Now(), Status: 502, Hop: "target", Error: "connection_refused", ErrorCode: "WT-TARGET-REFUSED", RequestID: "ced329e948e62666bf28bb85266c13ce"}},
	}, ok
}

func (m *manyTunnels) Evict(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.here[id]
	delete(m.here, id)
	m.evicted = append(m.evicted, id)
	return ok
}

func (m *manyTunnels) Unblock(string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.evicted = nil
	return true
}

func (m *manyTunnels) Evicted() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.evicted)
}

var updateScreenshots = flag.Bool("update-screenshots", false, "make the pictures in docs/images anew")

// screenshot writes what the tab shows to a file in docs/images, if that is asked for.
func (tb *tab) screenshot(name string) {
	tb.t.Helper()
	if !*updateScreenshots {
		return
	}
	b, err := chromedp.Run(tb.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		tb.t.Fatal(err)
	}
	if len(b) > 150<<10 {
		tb.t.Errorf("%s has %d bytes, too many for a repository", name, len(b))
	}
	if err := os.WriteFile(filepath.Join("../../docs/images", name+".png"), b, 0o644); err != nil {
		tb.t.Fatal(err)
	}
}

// becomes waits until an expression is true, also while the tab goes elsewhere.
func (tb *tab) becomes(expression string) {
	tb.t.Helper()
	for deadline := time.Now().Add(patience); ; <-time.After(20 * time.Millisecond) {
		ok, err := tryJS[bool](tb, "return !!("+expression+")")
		if err == nil && ok {
			return
		}
		if time.Now().After(deadline) {
			tb.t.Fatal(expression, " is not true: ", err)
		}
	}
}

// until returns a script that waits until an expression is true.
func until(expression string) string {
	return `await new Promise(resolve => {
		const look = () => (` + expression + `) ? resolve() : setTimeout(look, 20);
		look();
	});`
}

// TestStatusPage: an operator logs in, finds one of 10,000 tunnels, sees what is
// wrong with it, throws it out, and lets it in again, by the keyboard too. A client
// that flaps is found while it is away. The browser has nothing to
// complain about, and the page fits a phone.
func TestStatusPage(t *testing.T) {
	many := newManyTunnels(10_000)
	a := admin.New(admin.Config{Service: many, Token: "the admin token", Version: server.Version{Version: "v1.2.3"}})
	ln := tunneltest.Listen(t)
	done := make(chan error, 1)
	go func() { done <- a.Serve(ln) }()
	t.Cleanup(func() {
		a.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	url := "http://" + ln.Addr().String() + "/"
	tb := newTab(t)

	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1100, 720)); err != nil {
		t.Fatal(err)
	}
	resp, err := chromedp.Run(ctx, chromedp.NavigateResponse(url))
	if err != nil || resp.Status != http.StatusUnauthorized {
		t.Fatal(resp, err)
	}
	if err := chromedp.Do(ctx, chromedp.SendKeys("input[name=token]", "wrong\r")); err != nil {
		t.Fatal(err)
	}
	tb.becomes(`document.querySelector('[role=alert]')`)
	if err := chromedp.Do(ctx, chromedp.SendKeys("input[name=token]", "the admin token\r")); err != nil {
		t.Fatal(err)
	}
	tb.becomes(`document.querySelectorAll('#rows tr').length === 50`)
	complaints := tb.complaints()
	tb.open(url)
	got := js[[]string](tb, until(`document.querySelectorAll('#rows tr').length === 50`)+`
		const first = () => document.querySelector('#rows button').textContent;
		const seen = [document.querySelector('#count').textContent, first()];
		document.querySelector('#next').click();
		`+until(`first() !== seen[1]`)+`
		seen.push(first(), document.querySelector('#page').textContent);
		const sort = document.querySelector('[data-sort=sent_bytes]');
		sort.click();
		`+until(`first() === 'build-00000'`)+`
		sort.click();
		`+until(`first() !== 'build-00000'`)+`
		seen.push(first(), sort.parentElement.getAttribute('aria-sort'));
		const state = document.querySelector('#state');
		state.value = 'connected';
		state.dispatchEvent(new Event('change'));
		`+until(`document.querySelector('#count').textContent === '10000 tunnels'`)+`
		state.value = '';
		state.dispatchEvent(new Event('change'));
		const reconnects = document.querySelector('[data-sort=reconnects]');
		reconnects.click();
		`+until(`reconnects.parentElement.getAttribute('aria-sort') === 'ascending'`)+`
		reconnects.click();
		`+until(`first() === 'nightly-7'`)+`
		seen.push(/^gone 1\d s ago: lost$/.test(document.querySelector('#rows td:nth-child(2)').textContent), document.querySelector('#flapping').textContent);
		return seen.map(String);
	`)
	if want := []string{"10001 tunnels", "build-00000", "build-00050", "51–100 of 10001", "build-09999", "descending", "true", "1"}; !slices.Equal(got, want) {
		t.Errorf("the page shows %q, want %q", got, want)
	}
	tb.screenshot("status-page")

	// By keyboard alone from here on.
	js[any](tb, `document.querySelector('#text').focus()`)
	if err := chromedp.Do(ctx, chromedp.KeyEvent("build-04242")); err != nil {
		t.Fatal(err)
	}
	js[any](tb, until(`document.querySelector('#count').textContent === '1 tunnel'`)+`document.querySelector('#rows button').focus()`)
	if err := chromedp.Do(ctx, chromedp.KeyEvent("\r")); err != nil {
		t.Fatal(err)
	}
	js[any](tb, until(`document.querySelector('#detail').open && document.querySelector('#detail-body').textContent.includes('connection_refused')`)+
		`document.querySelector('#evict').focus()`)
	tb.screenshot("status-page-tunnel")
	if err := chromedp.Do(ctx, chromedp.KeyEvent("\r")); err != nil {
		t.Fatal(err)
	}
	if focus := js[string](tb, until(`document.querySelector('#confirm').open`)+`return document.activeElement.id`); focus != "no" {
		t.Errorf("the focus is on %q: Enter must not evict by accident", focus)
	}
	js[any](tb, `document.querySelector('#yes').focus()`)
	if err := chromedp.Do(ctx, chromedp.KeyEvent("\r")); err != nil {
		t.Fatal(err)
	}
	js[any](tb, until(`!document.querySelector('#detail').open && document.querySelector('#count').textContent === '0 tunnels'`))
	if _, ok := many.Tunnel("build-04242"); ok {
		t.Error("the tunnel is still there")
	}
	js[any](tb, until(`!document.querySelector('#blocked').hidden && document.querySelector('#blocked-ids').textContent.includes('build-04242')`)+
		`document.querySelector('#blocked-ids button').focus()`)
	if err := chromedp.Do(ctx, chromedp.KeyEvent("\r")); err != nil {
		t.Fatal(err)
	}
	js[any](tb, until(`document.querySelector('#blocked').hidden`))
	if ids := many.Evicted(); len(ids) != 0 {
		t.Errorf("%v are blocked still", ids)
	}

	js[any](tb, `const text = document.querySelector('#text'); text.value = ''; text.dispatchEvent(new Event('input'));`+until(`document.querySelectorAll('#rows tr').length === 50`))
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(390, 844)); err != nil {
		t.Fatal(err)
	}
	dark := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}}
	if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, dark); err != nil {
		t.Fatal(err)
	}
	tb.screenshot("status-page-phone")
	if wide := js[bool](tb, `return document.documentElement.scrollWidth > window.innerWidth`); wide {
		t.Error("on a phone the page is wider than the screen")
	}
	if got := complaints(); len(got) > 0 {
		t.Errorf("the browser complains: %q", got)
	}
}
