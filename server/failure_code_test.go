package server

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/internal/budget"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// TestErrorCodesAreDocumented: docs/errors.md has an entry for each code, and each of
// its entries is about one.
func TestErrorCodesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile("^WT(-[A-Z0-9]+)+$")
	var codes, entries []string
	for _, c := range errorCodes {
		if codes = append(codes, string(c)); !form.MatchString(string(c)) {
			t.Errorf("the code %s has another form than the others", c)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^### (.*)$`).FindAllSubmatch(text, -1) {
		entries = append(entries, string(m[1]))
	}
	slices.Sort(codes)
	if again := slices.Compact(slices.Clone(codes)); len(again) != len(codes) {
		t.Error("two codes are the same")
	}
	for _, c := range codes {
		if !slices.Contains(entries, c) {
			t.Errorf("docs/errors.md has no entry for %s", c)
		}
	}
	for _, e := range entries {
		if !slices.Contains(codes, e) {
			t.Errorf("docs/errors.md has an entry for %s, which is no code", e)
		}
	}
	// Entries link to each other, and other documents to them.
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\bWT-[A-Z0-9-]*[A-Z0-9]`).FindAll(text, -1) {
			if !slices.Contains(codes, string(m)) {
				t.Errorf("%s speaks of %s, which is no code", page, m)
			}
		}
		for _, m := range regexp.MustCompile(`(?:errors\.md|\()#(wt-[a-z0-9-]+)`).FindAllSubmatch(text, -1) {
			if !slices.Contains(codes, strings.ToUpper(string(m[1]))) {
				t.Errorf("%s links to %s, which is no code", page, m[1])
			}
		}
	}
}

// TestSymptomsAreDocumented: error pages link to headings of docs/troubleshooting.md.
func TestSymptomsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	anchors := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^## (.*)$`).FindAllSubmatch(text, -1) {
		anchors[strings.ReplaceAll(strings.ReplaceAll(strings.ToLower(string(m[1])), ",", ""), " ", "-")] = true
	}
	for _, c := range errorCodes {
		if _, anchor, _ := strings.Cut(c.symptom(), "troubleshooting.md#"); !anchors[anchor] {
			t.Errorf("%s: docs/troubleshooting.md has no heading for %q", c, anchor)
		}
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/nobody/", nil)
	r.Header.Set("Accept", "text/html")
	failNoTunnel.write(w, r, "id")
	if page := w.Body.String(); !strings.Contains(page, `href="`+codeNoTunnel.symptom()+`"`) || !strings.Contains(page, `href="`+codeNoTunnel.help()+`"`) {
		t.Error("the page has no links: ", page)
	}
}

// TestErrorCodesAreUsed: each code is made somewhere and expected by some test, each
// failure has one, and no error leaves the service without.
func TestErrorCodesAreUsed(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var made, expected string
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		switch text := string(b); {
		case file == "failure_code.go":
		case strings.HasSuffix(file, "_test.go"):
			expected += text
		default:
			made += text
			if strings.Contains(text, "http.Error(") {
				t.Errorf("%s answers with http.Error, which has no code", file)
			}
		}
	}
	for _, literal := range regexp.MustCompile(`&(?:failure|refusal)\{\s*(\w*)`).FindAllStringSubmatch(made, -1) {
		if literal[1] != "code" {
			t.Errorf("%s has no code", literal[0])
		}
	}
	source, err := os.ReadFile("failure_code.go")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\t(code\w+)\s+= newCode\("(.*)"\)`).FindAllStringSubmatch(string(source), -1)
	if len(names) != len(errorCodes) {
		t.Errorf("%d names for %d codes", len(names), len(errorCodes))
	}
	named := regexp.MustCompile(`\bcode\w+|\bWT-[A-Z0-9-]+["` + "`" + ` )]`)
	makes, expects := named.FindAllString(made, -1), named.FindAllString(expected, -1)
	for _, m := range names {
		if !slices.Contains(makes, m[1]) {
			t.Errorf("nothing makes %s", m[2])
		}
		if !slices.ContainsFunc(expects, func(s string) bool { return s == m[1] || s[:len(s)-1] == m[2] }) {
			t.Errorf("no test expects %s", m[2])
		}
	}
}

// TestErrorCodes of answers that other tests look at for other reasons.
func TestErrorCodes(t *testing.T) {
	get := func(path string) func(s *testService) string {
		return func(s *testService) string {
			return s.raw("GET " + path + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-Websocktunnel-Error: " + path + "\r\n\r\n")
		}
	}
	drained := func(then func(s *testService) string) func(s *testService) string {
		return func(s *testService) string {
			s.registry.drain()
			return then(s)
		}
	}
	register := func(s *testService) string {
		return s.raw(strings.Replace(registration(t, "new"), "\r\nOrigin", "\r\nConnection: close\r\nOrigin", 1))
	}
	for code, tc := range map[errorCode]struct {
		cfg Config
		do  func(s *testService) string
	}{
		codePathMode: {cfg: Config{ViewerDomain: "t.example", DisablePathMode: true}, do: get("/a/")},
		codeMalformedRequest: {do: func(s *testService) string {
			return s.raw("GET /a/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\nUpgrade: \x80\r\n\r\n")
		}},
		codeReservedMethod: {do: func(s *testService) string {
			return s.raw("POST /__version__ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		}},
		codeMalformedBody: {do: func(s *testService) string {
			return s.raw("POST /a/read HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n")
		}},
		codeTooManyMisses: {do: func(s *testService) string {
			s.misses.exhaust(netip.MustParseAddr("127.0.0.1"))
			return get("/nobody/")(s)
		}},
		codeLoop: {do: func(s *testService) string {
			return s.raw("GET /a/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\nCDN-Loop: " + string(s.loops) + "\r\n\r\n")
		}},
		codeTunnelLeft:     {do: drained(get("/nobody/"))},
		codeShuttingDown:   {do: drained(register)},
		codeTunnelLimit:    {cfg: Config{MaxTunnels: 1}, do: register},
		codeTargetDNS:      {do: get("/a/dns_error")},
		codeTargetUnreach:  {do: get("/a/destination_ip_unroutable")},
		codeTargetTLS:      {do: get("/a/tls_certificate_error")},
		codeTargetBroke:    {do: get("/a/http_response_incomplete")},
		codeTargetTimeout:  {do: get("/a/http_response_timeout")},
		codeTargetAnswer:   {do: get("/a/http_protocol_error")},
		codeTargetUpgrade:  {do: get("/a/http_upgrade_failed")},
		codeTargetNoAnswer: {do: get("/a/surprise")},
		codeNoMemoryForTunnel: {do: func(s *testService) string {
			h := s.memory.holdTunnel(nil, labelOf("new"))
			defer h.Release()
			for h.Admit(64<<10) == nil {
			}
			return register(s)
		}},
		codeUpgradeFailed: {do: func(s *testService) string {
			r := httptest.NewRequest("GET", "/", nil)
			for name, value := range map[string]string{
				"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
				"Sec-WebSocket-Protocol": wire.Subprotocol, wire.HeaderID: "new", "Authorization": "Bearer " + mint(t, "new"),
			} {
				r.Header.Set(name, value)
			}
			s.ServeHTTP(httptest.NewRecorder(), r) // whose connection cannot be taken over
			return ""
		}},
		codeNoHTTP2: {do: func(s *testService) string {
			c, _, err := s.dial("new", mint(t, "new"))
			if err != nil {
				t.Fatal(err)
			}
			c.conn.Close()
			return ""
		}},
	} {
		t.Run(string(code), func(t *testing.T) {
			var log lockedBuffer
			m, reg := newMetrics(t)
			tc.cfg.Metrics, tc.cfg.Logger = m, zerolog.New(&log)
			s := newService(t, tc.cfg)
			s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/read" {
					io.Copy(io.Discard, r.Body)
				}
				w.Header().Set(wire.HeaderError, strings.Trim(r.URL.Path, "/"))
				w.WriteHeader(http.StatusBadGateway)
			})))
			got := tc.do(s)
			waitFor(t, func() bool {
				return value(t, reg, "websocktunnel_failures_total", fmt.Sprintf("error_code=%q", code)) == 1
			})
			_, body, ok := strings.Cut(got, "\r\n\r\n")
			end := regexp.MustCompile(`\(` + string(code) + `(, request [0-9a-f]{32})?\)\n$`).FindStringSubmatch(body)
			if ok && end == nil {
				t.Errorf("the answer is %q, want the code %s", got, code)
			}
			if ok && strings.Contains(got, "Proxy-Status") && (end == nil || end[1] == "" || !strings.Contains(got, `; details="`+string(code)+end[1]+`"`)) {
				t.Errorf("the answer is %q, want the code %s in Proxy-Status", got, code)
			}
			if ok == strings.Contains(log.String(), `"event":"failed"`) {
				t.Errorf("log: %s", log.String())
			}
			if !ok && !strings.Contains(log.String(), `"error_code":"`+string(code)+`"`) {
				t.Errorf("the log has no code %s: %s", code, log.String())
			}
		})
	}
	if f := errFor(fmt.Errorf("x: %w", budget.ErrFull)); f.code != codeMemoryLimit {
		t.Errorf("without memory: %+v", f)
	}
	for err, want := range map[error]errorCode{
		errDraining: codeShuttingDown, errOvertaken: codeOvertaken, errEvicted: codeEvicted,
		fmt.Errorf("x: %w", errFewStreams): codeFewStreams, io.EOF: codeNoHTTP2,
	} {
		if code, _, _ := whyFailed(err); code != want {
			t.Errorf("%v is %s, want %s", err, code, want)
		}
	}
}
