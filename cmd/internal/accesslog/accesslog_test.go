package accesslog_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cmd/internal/accesslog"
	"github.com/websocktunnel/websocktunnel/server"
)

var start = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

func request() *server.RequestInfo {
	return &server.RequestInfo{
		ID: "4bf9", Start: start, Begun: start.Add(1500 * time.Microsecond), End: start.Add(2 * time.Second),
		Viewer: netip.MustParseAddr("192.0.2.1"), Method: "GET", Host: "h", Proto: "HTTP/2.0",
		UserAgent: `Mozilla "5"`, Referer: "https://u:p@r.example/reset/token?t=1#f",
		Tunnel: "build-42", Path: "/build-42/reset/token", Prefix: "/build-42", TunnelProto: "HTTP/2.0", TargetProto: "HTTP/1.1",
		Status: 200, Producer: "target", Received: 3, Sent: 1024,
	}
}

// line returns what cfg makes of i.
func line(t *testing.T, cfg accesslog.Config, i *server.RequestInfo) string {
	t.Helper()
	var b bytes.Buffer
	cfg.Out = &b
	if cfg.Sample == 0 {
		cfg.Sample = 1
	}
	l, err := accesslog.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.Done(i)
	if strings.Count(b.String(), "\n") != 1 || !strings.HasSuffix(b.String(), "\n") {
		t.Errorf("not one line: %q", b.String())
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func TestFormats(t *testing.T) {
	for _, tc := range []struct {
		cfg  accesslog.Config
		want string
	}{
		{
			accesslog.Config{Format: accesslog.Combined},
			`192.0.2.1 - - [04/May/2026:03:02:03 +0000] "GET /build-42/... HTTP/2.0" 200 1024 "https://r.example/..." "Mozilla \x225\x22" 4bf9 - -`,
		},
		{
			accesslog.Config{Format: accesslog.Combined, Paths: true},
			`192.0.2.1 - - [04/May/2026:03:02:03 +0000] "GET /build-42/reset/token HTTP/2.0" 200 1024 "https://r.example/reset/token" "Mozilla \x225\x22" 4bf9 - -`,
		},
		{
			accesslog.Config{Format: "{time} {id} {status} {first_byte_ms}/{duration_ms} {failed_hop}."},
			"2026-05-04T03:02:03.000Z build-42 200 1.500/2000.000 -.",
		},
		{
			accesslog.Config{Format: accesslog.JSON},
			`{"time":"2026-05-04T03:02:03Z","event":"request","request_id":"4bf9","remote":"192.0.2.1","id":"build-42","method":"GET","host":"h","path":"/build-42/…","proto":"HTTP/2.0","tunnel_proto":"HTTP/2.0","target_proto":"HTTP/1.1",` +
				`"status":200,"producer":"target","received_bytes":3,"sent_bytes":1024,"first_byte_ms":1.5,"duration_ms":2000,"user_agent":"Mozilla \"5\"","referer":"https://r.example/…"}`,
		},
		{accesslog.Config{Format: "{id} {node}>{tunnel_node}", Node: "a"}, "build-42 a>-"},
	} {
		if got := line(t, tc.cfg, request()); got != tc.want {
			t.Errorf("%+v:\n%s, want\n%s", tc.cfg, got, tc.want)
		}
	}
	for _, format := range []string{"{nothing}", "{status", "{}", "{status}\n{id}"} {
		if _, err := accesslog.New(accesslog.Config{Format: format}); err == nil {
			t.Errorf("%q is a template", format)
		}
	}
}

// TestNodes: of several nodes, a line names the one that writes it, and the one that has
// the tunnel, if that is another.
func TestNodes(t *testing.T) {
	i := request()
	i.TunnelNode = "b"
	if got := line(t, accesslog.Config{Format: accesslog.JSON, Node: "a"}, i); !strings.Contains(got, `,"node":"a","tunnel_node":"b",`) {
		t.Error(got)
	}
	if got := line(t, accesslog.Config{Format: "{node}>{tunnel_node}", Node: "a"}, i); got != "a>b" {
		t.Error(got)
	}
}

// TestEnding: combined says behind what others have which request it was, why it failed,
// and what became of it.
func TestEnding(t *testing.T) {
	for want, change := range map[string]func(*server.RequestInfo){
		`" 4bf9 - -`:                    func(*server.RequestInfo) {},
		`" 4bf9 WT-TARGET-REFUSED -`:    func(i *server.RequestInfo) { i.Status, i.ErrorCode = 502, "WT-TARGET-REFUSED" },
		`" 4bf9 WT-TARGET-BROKE broken`: func(i *server.RequestInfo) { i.ErrorCode, i.Broken = "WT-TARGET-BROKE", true },
		`" 4bf9 - upgrade`:              func(i *server.RequestInfo) { i.Status = 101 },
		`" 4bf9 WT-VIEWER-LEFT broken`:  func(i *server.RequestInfo) { i.Status, i.ErrorCode, i.Broken = 101, "WT-VIEWER-LEFT", true },
		`" a\x22\x0a - -`:               func(i *server.RequestInfo) { i.ID = "a\"\n" },
	} {
		i := request()
		change(i)
		if got := line(t, accesslog.Config{Format: accesslog.Combined}, i); !strings.HasSuffix(got, want) {
			t.Errorf("%s, want %s at its end", got, want)
		}
	}
	if got := line(t, accesslog.Config{Format: "{proto}>{tunnel_proto}>{target_proto} {ending}"}, request()); got != "HTTP/2.0>HTTP/2.0>HTTP/1.1 -" {
		t.Error(got)
	}
}

// TestMasks: without Paths nothing behind the name of a tunnel is shown, whatever
// form the path and the Referer have, and a query never is.
func TestMasks(t *testing.T) {
	for _, tc := range []struct{ path, prefix, masked string }{
		{"/a", "/a", "/a"},
		{"/a/", "/a", "/a/"},
		{"/a//secret", "/a", "/a/…"},
		{"/secret", "", "/…"},
		{"//secret", "", "/…"},
		{"/", "", "/"},
		{"*", "", "*"},
		{"", "", ""},
		{"/__version__", "/__version__", "/__version__"},
	} {
		i := request()
		i.Path, i.Prefix = tc.path, tc.prefix
		var got struct{ Path string }
		if err := json.Unmarshal([]byte(line(t, accesslog.Config{Format: accesslog.JSON}, i)), &got); err != nil || got.Path != tc.masked {
			t.Errorf("%q is shown as %q, want %q (%v)", tc.path, got.Path, tc.masked, err)
		}
	}
	for _, tc := range []struct{ referer, masked, whole string }{
		{"", "", ""},
		{"https://r/", "https://r/", "https://r/"},
		{"https://r", "https://r", "https://r"},
		{"https://r?secret", "https://r", "https://r"},
		{"https://u:secret@r/x?secret#secret", "https://r/…", "https://r/x"},
		{"/x?secret", "/…", "/x"},
		{"secret", "/…", "/…"},
		{"secret@x", "/…", "/…"},
	} {
		i := request()
		i.Referer = tc.referer
		for paths, want := range map[bool]string{false: tc.masked, true: tc.whole} {
			text := line(t, accesslog.Config{Format: accesslog.JSON, Paths: paths}, i)
			var got struct{ Referer string }
			if err := json.Unmarshal([]byte(text), &got); err != nil || got.Referer != want || strings.Contains(text, "secret") {
				t.Errorf("%q, paths %v: %q, want %q (%v)", tc.referer, paths, got.Referer, want, err)
			}
		}
	}
}

// TestInjection: no field can end a line or its quotes.
func TestInjection(t *testing.T) {
	i := request()
	const evil = "\" \n\r\t\x1b[31m\\é\x00\" 200"
	i.UserAgent, i.Host, i.ID, i.Path, i.Prefix, i.Referer = evil, evil, evil, "/"+evil, "/"+evil, "/"+evil
	for _, format := range []string{accesslog.Combined, "{host} {request_id} {path}"} {
		got := line(t, accesslog.Config{Format: format, Paths: true}, i)
		for _, c := range []byte(got) {
			if c < ' ' || c > '~' {
				t.Errorf("%q has the byte %x", got, c)
			}
		}
		if format == accesslog.Combined && strings.Count(got, `"`) != 6 {
			t.Errorf("quotes: %s", got)
		}
	}
	if got := line(t, accesslog.Config{Format: accesslog.JSON, Paths: true}, i); !json.Valid([]byte(got)) {
		t.Errorf("not JSON: %s", got)
	}
}

// TestSample: failures are logged in any case.
func TestSample(t *testing.T) {
	var b bytes.Buffer
	l, err := accesslog.New(accesslog.Config{Format: "{status}", Sample: 0.25, Out: &b})
	if err != nil {
		t.Fatal(err)
	}
	i := request()
	for range 10_000 {
		l.Done(i)
	}
	if n := strings.Count(b.String(), "200"); n < 2000 || n > 3000 {
		t.Errorf("%d of 10,000 at a sample of 0.25", n)
	}
	b.Reset()
	for _, status := range []int{500, 502, 0} {
		i.Status = status
		l.Done(i)
	}
	i.Status, i.Broken = 200, true
	l.Done(i)
	if b.String() != "500\n502\n0\n200\n" {
		t.Errorf("failures: %q", b.String())
	}
}

// TestReopen: lines go on to the file that is at the path.
func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	f, err := accesslog.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fmt.Fprintln(f, "one")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(f, "two")
	if err := f.Reopen(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(f, "three")
	old, _ := os.ReadFile(path + ".1")
	now, _ := os.ReadFile(path)
	if string(old) != "one\ntwo\n" || string(now) != "three\n" {
		t.Errorf("%q and %q", old, now)
	}
}

// TestCheckFile: what cannot be opened later is told before, and nothing is made.
func TestCheckFile(t *testing.T) {
	dir := t.TempDir()
	there := filepath.Join(dir, "there")
	if err := os.WriteFile(there, []byte("line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	closed := filepath.Join(dir, "closed")
	if err := os.Mkdir(closed, 0o500); err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{
		there:                            "",
		filepath.Join(dir, "new"):        "",
		dir:                              "it is a directory",
		filepath.Join(dir, "no", "file"): "there is no directory " + filepath.Join(dir, "no"),
		filepath.Join(there, "file"):     "directory",
	}
	if runtime.GOOS != "windows" && os.Geteuid() > 0 { // root may write everywhere
		rows[filepath.Join(closed, "file")] = "may make no file in " + closed
	}
	for path, want := range rows {
		err := accesslog.CheckFile(path)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if all, _ := os.ReadDir(dir); len(all) != 2 {
		t.Errorf("the directory has %d entries now", len(all))
	}
}

// BenchmarkDone is what one line costs the request that it is about.
func BenchmarkDone(b *testing.B) {
	for _, format := range []string{accesslog.JSON, accesslog.Combined} {
		b.Run(format, func(b *testing.B) {
			l, err := accesslog.New(accesslog.Config{Format: format, Sample: 1, Out: discard{}})
			if err != nil {
				b.Fatal(err)
			}
			i := request()
			b.ReportAllocs()
			for b.Loop() {
				l.Done(i)
			}
		})
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
