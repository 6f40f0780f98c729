//go:build linux

package hostile

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// What a peer may make the service spend, in CPU time. The figures are for the machine
// of docs/security.md. Other machines, and those that do other things beside this, have
// costTolerance times as much, with WST_LONG half of that.
const (
	refusalCost   = 300 * time.Microsecond // of a refused request, all told; or
	refusalRatio  = 1.5                    // by which it costs more than one that net/http alone refuses
	answerCost    = time.Millisecond       // of an answer, more than a plain one costs
	decodingCost  = 3 * answerCost         // of one that breaks a bound: x/net has decoded it before
	costTolerance = 4
	costTries     = 3

	// commandsPercent is the GOGC that the commands give a small heap.
	commandsPercent = 400
)

// cpuTime is what this process has needed: the service, and a peer that does little.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// costOf returns what one request of ask costs, the least of some tries.
func costOf(ask func(n int)) time.Duration {
	n := 20
	if long() {
		n = 100
	}
	least := time.Hour
	for range costTries {
		before := cpuTime()
		ask(n)
		least = min(least, (cpuTime()-before)/time.Duration(n))
	}
	return least.Round(time.Microsecond)
}

// tolerable is most with tolerance.
func tolerable(most time.Duration) time.Duration {
	if long() {
		return costTolerance / 2 * most
	}
	return costTolerance * most
}

// worstFields are headers that take time or room to read, by what is large in them. Each is within
// what the service admits, over both protocols.
var worstFields = []struct {
	name   string
	fields []string // names and values
}{
	{"nothing", nil},
	{"crumbs", repeated(990, "cookie", "a=b")},
	{"large crumbs", repeated(15, "cookie", strings.Repeat("c", 3900))},
	{"a cookie", []string{"cookie", strings.Repeat("a=b; ", 12_000)}},
	{"Accept", repeated(15, "accept", strings.Repeat("a/b;q=0.1,", 380))},
	{"Accept in one", []string{"accept", strings.Repeat("a/b;q=0.1,", 6000)}},
	{"values of one name", repeated(990, "x", "y")},
	{"names", numbered(990, "x%d", "")},
	{"names for which there is a canonical form", numbered(990, "a-b-c-d-%d", "y")},
	{"X-Forwarded-For", []string{"x-forwarded-for", strings.Repeat("1.2.3.4, ", 6600)}},
	{"lines of X-Forwarded-For", repeated(990, "x-forwarded-for", "1.2.3.4, ::1")},
	{"Forwarded", []string{"forwarded", strings.Repeat(`for="[::1]:1";by=a,`, 3200)}},
	{"lines of Forwarded", repeated(990, "forwarded", `for="[::1]";by=_a`)},
	{"Via", []string{"via", strings.Repeat("1.1 a, ", 8500)}},
	{"CDN-Loop", []string{"cdn-loop", strings.Repeat("a;b=c, ", 8500)}},
	{"lines of CDN-Loop", repeated(990, "cdn-loop", `a; b="c"`)},
	{"Authorization", []string{"authorization", "Bearer " + strings.Repeat("a.", 30_000)}},
	{"lines of Authorization", repeated(990, "authorization", "Bearer a.b.c")},
	{"ids", repeated(990, "x-websocktunnel-id", "a")},
	{"Proxy-Status", []string{"proxy-status", strings.Repeat("websocktunnel;error=a, ", 2600)}},
	{"Sec-WebSocket-Protocol", []string{"sec-websocket-protocol", strings.Repeat("a, ", 20_000)}},
	{"Accept-Encoding", []string{"accept-encoding", strings.Repeat("gzip;q=0, ", 6000)}},
	{"names that look like claims", numbered(990, "x_forwarded_%d", "y")},
	{"a name", []string{strings.Repeat("x-y_z.", 6000), "y"}},
	{"bytes without a short code", []string{"x", strings.Repeat("\xff", 60_000)}},
}

// worstHTTP1 are those that are possible over HTTP/1 only.
var worstHTTP1 = map[string][]string{
	"Connection":          {"connection", strings.Repeat("a, ", 20_000)},
	"lines of Connection": repeated(990, "connection", "x, y"),
	"Upgrade":             {"connection", "upgrade", "upgrade", strings.Repeat("a/1, ", 12_000)},
	"TE":                  {"te", strings.Repeat("gzip, ", 10_000)},
	"Trailer":             {"transfer-encoding", "chunked", "trailer", strings.Repeat("t,", 30_000)},
	"long names, Trailer": {"transfer-encoding", "chunked", "trailer", strings.Repeat(strings.Repeat("t", 600)+",", 99)},
	"folded lines":        {"x", strings.Repeat("y\r\n ", 15_000)},
}

func repeated(n int, name, value string) (kv []string) {
	for range n {
		kv = append(kv, name, value)
	}
	return kv
}

func numbered(n int, name, value string) (kv []string) {
	for i := range n {
		kv = append(kv, fmt.Sprintf(name, i), value)
	}
	return kv
}

// refusals are requests that the service answers itself.
var refusals = []struct {
	name         string
	method, path string
	fields       []string
	want         string // statuses
	http1        bool   // there only
}{
	{"unknown tunnel", "GET", "/nobody/x", nil, "404 429", false},
	{"root", "GET", "/", nil, "404 429 400", false},
	{"below what is reserved", "GET", "/__heartbeat__/x", nil, "404 429", false},
	{"malformed", "GET", "//x", nil, "400", false},
	{"long path", "GET", "/" + strings.Repeat("%41/", 900), nil, "404 429", false},
	{"reserved", "GET", "/__heartbeat__", nil, "200", false},
	{"reserved, with a body", "POST", "/__heartbeat__", nil, "405", false},
	{"CONNECT", "CONNECT", "h:1", nil, "405", true},
	{"script of a service worker", "GET", "/" + neighbourID, []string{"service-worker", "script"}, "403", false},
	{"too many fields", "GET", "/" + neighbourID + "/", repeated(1001, "z", "z"), "431", false},
	{"loop", "GET", "/" + neighbourID + "/", []string{"cdn-loop", "<loop>"}, "508", false},
	{"bad token", "GET", "/", []string{"x-websocktunnel-id", "a", "authorization", "Bearer a.b.c"}, "401 429 400", false},
	{"no handshake", "GET", "/", []string{"x-websocktunnel-id", "a", "authorization", "<token>"}, "426 400 401", false},
}

// TestRefusalCost: what a request costs that the service refuses does not grow with
// what it says.
//
//	WST_LONG=1 go test -tags http2legacy -run Cost -v -timeout 1h ./internal/hostile
func TestRefusalCost(t *testing.T) {
	if raceDetector {
		t.Skip("it is about time")
	}
	s := newService(t, server.Config{})
	loop := loopName(t, s)
	token := "Bearer " + tunneltest.Token(t, "a")
	defer debug.SetGCPercent(debug.SetGCPercent(commandsPercent))
	bare := bareService(t)
	n := 0
	for _, r := range refusals {
		for proto := 1; proto <= 2; proto++ {
			if r.http1 && proto == 2 {
				continue
			}
			run := func(name string, worst []string) {
				if n++; n%5 > 0 && !long() {
					return
				}
				t.Run(fmt.Sprintf("%s/HTTP %d/%s", r.name, proto, name), func(t *testing.T) {
					fields := slices.Clone(worst)
					for _, f := range r.fields {
						fields = append(fields, strings.NewReplacer("<loop>", loop, "<token>", token).Replace(f))
					}
					v := newCostViewer(t, proto, r.method, r.path, fields)
					v.addr, v.from, v.want = s.Addr, net.IPv4(127, 1, byte(n>>8), byte(n)), r.want
					cost := costOf(v.ask)
					v.close()
					if t.Log(cost); cost <= tolerable(refusalCost) {
						return
					}
					v.addr, v.want = bare, "404"
					if alone := costOf(v.ask); cost > tolerable(time.Duration(refusalRatio*float64(alone))) {
						t.Errorf("it costs %v, want %v at most; net/http alone needs %v", cost, tolerable(refusalCost), alone)
					} else {
						t.Logf("net/http alone: %v", alone)
					}
				})
			}
			for _, w := range worstFields {
				run(w.name, w.fields)
			}
			if proto == 1 {
				for name, fields := range worstHTTP1 {
					run(name, fields)
				}
			}
		}
	}
}

// bareService is net/http with a handler that does nothing.
func bareService(t *testing.T) (addr string) {
	t.Helper()
	ln := tunneltest.Listen(t)
	hs := &http.Server{Handler: http.NotFoundHandler(), MaxHeaderBytes: 64 << 10, ReadHeaderTimeout: time.Minute, Protocols: new(http.Protocols)}
	hs.Protocols.SetHTTP1(true)
	hs.Protocols.SetUnencryptedHTTP2(true)
	if err := http2.ConfigureServer(hs, nil); err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { hs.Serve(ln) })
	t.Cleanup(func() {
		hs.Close()
		serving.Wait()
	})
	return ln.Addr().String()
}

// loopName returns what the service adds to CDN-Loop.
func loopName(t *testing.T, s *service) string {
	t.Helper()
	got := make(chan string, 1)
	c := s.Client("loops", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("CDN-Loop") }), tunnelclient.Config{})
	defer c.Stop()
	if o := s.ask(http.MethodGet, "/loops/", nil); o.err != nil {
		t.Fatal(o.err)
	}
	return <-got
}

// costViewer makes the same request again and again, and does little itself.
type costViewer struct {
	t     *testing.T
	addr  string
	from  net.IP
	proto int
	want  string

	untilClosed bool // an answer over HTTP/1 ends with its connection

	method, path string
	fields       []string

	c    net.Conn
	br   *bufio.Reader
	text []byte // the request, over HTTP/1

	fr    *http2.Framer
	enc   *hpack.Encoder
	block bytes.Buffer
	last  []byte // the last header block
	known bool   // it is the same again and again
	next  uint32
	seen  bool // the status has been looked at
}

func newCostViewer(t *testing.T, proto int, method, path string, fields []string) *costViewer {
	t.Helper()
	v := &costViewer{t: t, proto: proto, method: method, path: path, fields: fields}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: h\r\n", method, path)
	for i := 0; i < len(fields); i += 2 {
		fmt.Fprintf(&b, "%s: %s\r\n", fields[i], fields[i+1])
	}
	b.WriteString("\r\n")
	if slices.Contains(fields, "chunked") {
		b.WriteString("0\r\n\r\n")
	}
	v.text = []byte(b.String())
	t.Cleanup(v.close)
	return v
}

func (v *costViewer) close() {
	if v.c != nil {
		v.c.Close()
		v.c = nil
	}
}

func (v *costViewer) dial() {
	if v.c != nil {
		return
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: v.from}}
	c, err := d.Dial("tcp", v.addr)
	if err != nil {
		v.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(time.Minute))
	v.c, v.br = c, bufio.NewReader(c)
	if v.proto == 2 {
		v.fr = http2.NewFramer(c, v.br)
		v.enc = hpack.NewEncoder(&v.block)
		v.next, v.last, v.known, v.seen = 1, nil, false, false
		io.WriteString(c, http2.ClientPreface)
		v.fr.WriteSettings()
		v.fr.WriteWindowUpdate(0, 1<<30)
	}
}

// ask makes n requests, one after the other.
func (v *costViewer) ask(n int) {
	for range n {
		v.dial()
		if v.proto == 1 {
			v.askHTTP1()
		} else {
			v.askHTTP2()
		}
	}
}

func (v *costViewer) check(status string) {
	if !strings.Contains(" "+v.want+" 431 ", " "+status+" ") {
		v.t.Fatalf("the answer is %s, want %s", status, v.want)
	}
}

func (v *costViewer) askHTTP1() {
	v.c.Write(v.text)
	if v.untilClosed { // reading a large answer by the rules costs as much as making it
		if line, _ := v.br.ReadString('\n'); len(line) > 12 {
			v.check(line[9:12])
		}
		io.Copy(io.Discard, v.br)
		v.close()
		return
	}
	resp, err := http.ReadResponse(v.br, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	v.check(fmt.Sprint(resp.StatusCode))
	io.Copy(io.Discard, resp.Body)
	if resp.Close {
		v.close()
	}
}

func (v *costViewer) askHTTP2() {
	if !v.known {
		v.block.Reset()
		for _, f := range [][2]string{{":method", v.method}, {":scheme", "http"}, {":path", v.path}, {":authority", "h"}} {
			v.enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		for i := 0; i < len(v.fields); i += 2 {
			v.enc.WriteField(hpack.HeaderField{Name: strings.ToLower(v.fields[i]), Value: v.fields[i+1]})
		}
		v.known = bytes.Equal(v.last, v.block.Bytes())
		v.last = bytes.Clone(v.block.Bytes())
	}
	const most = 16 << 10
	id := v.next
	v.next += 2
	var out bytes.Buffer
	w := http2.NewFramer(&out, nil)
	b := v.last
	first := b[:min(len(b), most)]
	w.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndStream: true, EndHeaders: len(first) == len(b)})
	for b = b[len(first):]; len(b) > 0; {
		k := min(len(b), most)
		w.WriteContinuation(id, k == len(b), b[:k])
		b = b[k:]
	}
	v.c.Write(out.Bytes())
	for {
		f, err := v.fr.ReadFrame()
		if err != nil {
			v.t.Fatal(err)
		}
		if h, ok := f.(*http2.HeadersFrame); ok && !v.seen {
			v.seen = true
			hpack.NewDecoder(4096, func(f hpack.HeaderField) {
				if f.Name == ":status" {
					v.check(f.Value)
				}
			}).Write(h.HeaderBlockFragment())
		}
		if _, ok := f.(*http2.GoAwayFrame); ok {
			v.t.Fatal("GOAWAY")
		}
		if f.Header().StreamID == id && f.Header().Flags&http2.FlagDataEndStream != 0 {
			return
		}
		if r, ok := f.(*http2.RSTStreamFrame); ok && r.StreamID == id {
			return
		}
	}
}

type worstAnswer struct {
	name     string
	header   []string
	trailer  []string
	interims int // 103s with that header before the answer, which then is a plain one
}

// worstAnswers are answers of a tunnel client that take time to look at.
var worstAnswers = []worstAnswer{
	{"nothing", nil, nil, 0},
	{"values of one name", repeated(990, "!x", "y"), nil, 0},
	{"names", numbered(990, "!x-a-b-%d", ""), nil, 0},
	{"more fields than there may be", repeated(7600, "!x", "y"), nil, 0},
	{"more names than there may be", numbered(6500, "!x%d", ""), nil, 0},
	{"a large value", []string{"!x", strings.Repeat("~", 60_000)}, nil, 0},
	{"cookies", repeated(990, "!set-cookie", "a=b; path=/x; domain=y"), nil, 0},
	{"a cookie of many attributes", []string{"!set-cookie", "a=b" + strings.Repeat(";path=/", 8000)}, nil, 0},
	{"cookies of many attributes", repeated(15, "!set-cookie", "a=b"+strings.Repeat(";path=/", 550)), nil, 0},
	{"Connection", []string{"!connection", strings.Repeat("a,", 30_000)}, nil, 0},
	{"Trailer", []string{"!trailer", strings.Repeat("t,", 30_000)}, nil, 0},
	{"Proxy-Status", []string{"!proxy-status", strings.Repeat(`a;b="\\\"",`, 5000)}, nil, 0},
	{"lines of Proxy-Status", repeated(990, "!proxy-status", "websocktunnel; error=a"), nil, 0},
	{"Location", []string{"!location", "http://127.0.0.1/" + strings.Repeat("%41/", 15_000)}, nil, 0},
	{"Link", []string{"!link", strings.Repeat("</a>; rel=preload,", 3400)}, nil, 0},
	{"names that are removed", numbered(990, "!x-accel-%d", "y"), nil, 0},
	{"Content-Type", []string{"!content-type", strings.Repeat("text/plain; a=b", 4000)}, nil, 0},
	{"Vary", repeated(990, "!vary", "a, b"), nil, 0},
	{"trailers", nil, numbered(99, "!t%d", strings.Repeat("~", 400)), 0},
	{"trailers of many names", nil, numbered(6500, "!t%d", ""), 0},
	{"trailers of one name", nil, repeated(7000, "!t", "y"), 0},
	{"trailers that are announced", []string{"!trailer", strings.Join(names(99), ",")}, numbered(99, "!t%d", "y"), 0},
	{"trailers that are announced, too many", []string{"!trailer", strings.Join(names(7000), ",")}, numbered(6500, "!t%d", ""), 0},
	{"trailers that are headers", nil, repeated(7000, "!set-cookie", "a=b"), 0},
	{"interim answers", repeated(990, "!link", "</a>; rel=preload"), nil, 1},
}

func names(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("t%d", i))
	}
	return names
}

// TestAnswerCost: neither headers nor trailers of an answer cost much.
func TestAnswerCost(t *testing.T) {
	if raceDetector {
		t.Skip("it is about time")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(commandsPercent))
	for proto := 1; proto <= 2; proto++ {
		var plain time.Duration
		for i, a := range worstAnswers {
			if i > 0 && i%3 > 0 && !long() {
				continue
			}
			t.Run(fmt.Sprintf("HTTP %d/%s", proto, a.name), func(t *testing.T) {
				s := newService(t, server.Config{})
				c, err := dial(s.Addr, "costly", tunneltest.Token(t, "costly"))
				if err != nil {
					t.Fatal(err)
				}
				defer c.close()
				c.start()
				c.h2(func(w *http2.Framer) { w.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 250}) })
				var over sync.WaitGroup
				defer over.Wait()
				defer c.nc.Close()
				answer := a.answers(c)
				over.Go(func() {
					for {
						select {
						case r := <-c.requests:
							answer(r.stream)
						case <-c.closed:
							return
						}
					}
				})
				if !tunneltest.Poll(patience, func() bool { _, ok := s.Tunnel("costly"); return ok }) {
					t.Fatal("the tunnel has not come")
				}
				v := newCostViewer(t, proto, "GET", "/costly/", map[int][]string{1: {"connection", "close"}}[proto])
				v.addr, v.from, v.want, v.untilClosed = s.Addr, net.IPv4(127, 0, 0, 1), "103 200 502", true
				cost := costOf(v.ask)
				v.close()
				if i == 0 {
					plain = cost
				}
				most := plain + tolerable(answerCost)
				if len(a.header) > 2*1000 || len(a.trailer) > 2*100 {
					most = plain + tolerable(decodingCost)
				}
				if t.Log(cost); cost > most {
					t.Errorf("it costs %v, want %v at most", cost, most)
				}
			})
		}
	}
}

// answers returns what answers a request. It encodes nothing any more.
func (a *worstAnswer) answers(c *client) func(stream uint32) {
	encode := func(kv ...string) []byte {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.encode(kv...)
	}
	interim := encode(append([]string{"!:status", "103"}, a.header...)...)
	header := a.header
	if a.interims > 0 {
		header = nil
	}
	final, trailer := encode(append([]string{"!:status", "200"}, header...)...), encode(a.trailer...)
	return func(stream uint32) {
		for range a.interims {
			c.headerBlock(stream, false, interim)
		}
		c.headerBlock(stream, false, final)
		c.data(stream, len(a.trailer) == 0, "x")
		if len(a.trailer) > 0 {
			c.headerBlock(stream, true, trailer)
		}
	}
}
