package browser

import (
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
	"github.com/websocktunnel/websocktunnel/internal/demosite"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// useDemo presses the page's buttons and waits until every panel is ok, or one
// is not.
const useDemo = `
	const panel = (id) => document.querySelector('[data-testid="' + id + '"]');
	const press = (action) => document.querySelector('[data-action="' + action + '"]').click();
	const all = ['echo', 'websocket', 'events', 'upload', 'download'];
	const until = (done) => new Promise((resolve, reject) => {
		const look = () => {
			const wrong = all.filter((id) => panel(id).dataset.state === 'error');
			if (wrong.length > 0) {
				observer.disconnect();
				reject(new Error(wrong.map((id) => id + ': ' + panel(id).innerText).join('; ')));
			} else if (done()) {
				observer.disconnect();
				resolve();
			}
		};
		const observer = new MutationObserver(look);
		observer.observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });
		look();
	});
	panel('download-size').value = '10000000';
	press('download');
	press('upload-generated');
	await until(() => all.every((id) => panel(id).dataset.state === 'ok'));
	press('websocket-big');
	await until(() => panel('websocket-big').textContent.startsWith('unchanged'));
	await until(() => Number(panel('events-count').textContent) >= 2);
	return Object.fromEntries(all.map((id) => [id, panel(id).innerText]));
`

// TestDemo: all panels of the demo page work, on the tunnel's own host and by
// path, there with and without the slash at the end of its URL, and the browser
// has nothing to complain about.
func TestDemo(t *testing.T) {
	for scheme, want := range schemes {
		for name, slash := range map[string]string{"on a host of its own": "/", "with slash": "/", "without slash": ""} {
			t.Run(scheme+" "+name, func(t *testing.T) {
				t.Parallel()
				passed(t, "the demo page, "+name, scheme)
				site := httptest.NewServer(demosite.Handler())
				t.Cleanup(site.Close)
				o := harness.Options{TLS: want.tls}
				if name == "on a host of its own" {
					o.Server.ViewerDomain = "localhost" // as the demo has it; browsers know it
				}
				s := harness.Start(t, o)
				url := s.Target("demo", site.URL, tunnelclient.ProxyOptions{})
				tb := newTab(t)
				complaints := tb.complaints()

				tb.open(url + slash)
				if got := tb.version(); got != want.version {
					t.Errorf("the page came by %s, want %s", got, want.version)
				}
				panels := js[map[string]string](tb, useDemo)
				if !strings.Contains(panels["echo"], "/echo") {
					t.Errorf("echo shows %q", panels["echo"])
				}
				if !strings.Contains(panels["upload"], "hash matches") {
					t.Errorf("upload shows %q", panels["upload"])
				}
				if got := complaints(); len(got) > 0 {
					t.Errorf("the browser complains: %q", got)
				}
			})
		}
	}
}

// complaints returns a function that returns what the browser has found wrong
// with the page since: errors of scripts, of policies, of requests.
func (tb *tab) complaints() func() []string {
	tb.t.Helper()
	var mu sync.Mutex
	var said []string
	add := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, s)
	}
	err := chromedp.Listen(tb.ctx, func(ev any) {
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			add(ev.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			add("console." + string(ev.Type))
		case *log.EventEntryAdded:
			add(ev.Entry.Text + " " + ev.Entry.URL)
		case *network.EventLoadingFailed:
			// It calls some downloads aborted that a script has read to the
			// end, without a tunnel too.
			if ev.ErrorText != "net::ERR_ABORTED" {
				add("loading failed: " + ev.ErrorText)
			}
		}
	})
	if err != nil {
		tb.t.Fatal(err)
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(said)
	}
}
