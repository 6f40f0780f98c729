package reliability

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/websocktunnel/websocktunnel/internal/faultnet"
)

// exchangeBound is after what time an exchange counts as hung. The slowest
// honest one waits for a slot (5 s) or a registration (5 s), moves half a
// megabyte over a slow link, and meets the end of liveness; the rest is for
// busy machines.
const exchangeBound = 45 * time.Second

// outcome is how an exchange ended.
type outcome string

const (
	right   outcome = "right"           // right bytes, all of them
	refused outcome = "honest answer"   // 502, 503, 504, or 404 while no client is connected
	broken  outcome = "honest break"    // a broken connection or stream
	left    outcome = "left by itself"  // the viewer did not wait for the end
	lost    outcome = "lost"            // looked right and was not, or was refused without a word
	hung    outcome = "hung"            // took longer than exchangeBound
	twice   outcome = "delivered twice" // a POST
)

// viewer makes one exchange after the other, over a connection of its own.
type viewer struct {
	url    string // of the tunnel
	name   string
	target *target
	rng    *rand.Rand
	http   *http.Client // HTTP/1.1 or HTTP/2
	http1  *http.Client // for websockets
	close  func()
	from   string // the address that the viewer claims

	conn    atomic.Pointer[faultnet.Conn] // of the last request; nil if not in memory
	cuts    sync.Map                      // the keys are the *faultnet.Links that were truncated
	uploads int

	// leaves and breaks say whether exchanges are among those asked for in
	// which the viewer leaves, and in which the target breaks off.
	leaves, breaks bool
}

func newViewer(s *service, tg *target, id string, n int, rng *rand.Rand) *viewer {
	v := &viewer{
		url: "http://tunnel.test/" + id, name: fmt.Sprintf("%s-%d", id, n), target: tg, rng: rng,
		from: fmt.Sprintf("203.0.%d.%d", rng.IntN(256), rng.IntN(256)),
	}
	one := &http.Transport{DialContext: s.dialViewer, DisableCompression: true}
	two := &http.Transport{DialContext: s.dialViewer, DisableCompression: true, Protocols: new(http.Protocols)}
	two.Protocols.SetUnencryptedHTTP2(true)
	v.http1 = &http.Client{Transport: one}
	v.http = v.http1
	if n%2 == 1 {
		v.http = &http.Client{Transport: two}
	}
	v.close = func() { one.CloseIdleConnections(); two.CloseIdleConnections() }
	return v
}

// exchangeKind is one kind of exchange.
type exchangeKind struct {
	name   string
	weight int
	run    func(*viewer, context.Context, context.CancelFunc) (outcome, error)
	fault  string // that it injects; "": none
}

const (
	viewerLeaves = "viewer leaves"
	targetBreaks = "target breaks off"
)

var exchanges = []exchangeKind{
	{"small", 6, (*viewer).small, ""},
	{"download", 4, (*viewer).download, ""},
	{"upload", 4, (*viewer).upload, ""},
	{"websocket", 3, (*viewer).websocket, ""},
	{"wait", 2, (*viewer).wait, ""},
	{"left download", 1, (*viewer).leaveDownload, viewerLeaves},
	{"left upload", 1, (*viewer).leaveUpload, viewerLeaves},
	{"left wait", 1, (*viewer).leaveWait, viewerLeaves},
	{"broken answer", 2, (*viewer).broken, targetBreaks},
}

// exchange makes one exchange. Its error says more about an outcome that is
// not right. The fault is what it injected, or empty.
func (v *viewer) exchange() (kind string, fault string, out outcome, err error) {
	var e exchangeKind
	for {
		e = v.draw()
		if e.fault == "" || e.fault == viewerLeaves && v.leaves || e.fault == targetBreaks && v.breaks {
			break
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), exchangeBound)
	defer cancel()
	out, err = e.run(v, ctx, cancel)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		out = hung
	}
	return e.name, e.fault, out, err
}

// draw returns a kind of exchange.
func (v *viewer) draw() exchangeKind {
	total := 0
	for _, e := range exchanges {
		total += e.weight
	}
	n := v.rng.IntN(total)
	return exchanges[slices.IndexFunc(exchanges, func(e exchangeKind) bool {
		n -= e.weight
		return n < 0
	})]
}

// do asks for path, and returns an answer only if it is the target's. A length
// of -1 means that it is not told.
func (v *viewer) do(ctx context.Context, path string, body io.Reader, length int64) (*http.Response, outcome, error) {
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(v.traced(ctx), method, v.url+path, body)
	if err != nil {
		return nil, lost, err
	}
	req.ContentLength = length
	req.Header.Set("X-Forwarded-For", v.from)
	resp, err := v.http.Do(req)
	if err != nil {
		return nil, broken, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, right, nil
	}
	defer resp.Body.Close()
	out, err := v.judge(resp)
	return nil, out, err
}

// traced returns a context in which v.conn is the connection of the request.
func (v *viewer) traced(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		c, _ := i.Conn.(*faultnet.Conn)
		v.conn.Store(c)
	}})
}

// wasCut reports whether the connection of the last request was truncated.
func (v *viewer) wasCut() bool {
	c := v.conn.Load()
	if c == nil {
		return false
	}
	_, cut := v.cuts.Load(c.Link())
	return cut
}

// judge says whether an answer other than 200 is an honest one.
func (v *viewer) judge(resp *http.Response) (outcome, error) {
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1000))
	said := fmt.Errorf("%s, Proxy-Status %q, %q, %v", resp.Status, resp.Header.Get("Proxy-Status"), b, err)
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if resp.Header.Get("Proxy-Status") != "" {
			return refused, said
		}
	case http.StatusBadRequest:
		if v.wasCut() { // so was its request, and net/http says so
			return refused, said
		}
	}
	return lost, said
}

// checkBody reads an answer's body, which has to be p.
func checkBody(resp *http.Response, p payload) (outcome, error) {
	defer resp.Body.Close()
	switch err := p.check(resp.Body); {
	case errors.Is(err, errWrongBytes):
		return lost, err
	case err != nil:
		return broken, err
	}
	return right, nil
}

// payload returns one of up to limit bytes, most of them small.
func (v *viewer) payload(limit int) payload {
	p := payload{seed: v.rng.Uint64() & 0xffff}
	switch v.rng.IntN(4) {
	case 0:
		p.size = uint64(v.rng.IntN(limit))
	default:
		p.size = uint64(v.rng.IntN(limit / 16))
	}
	return p
}

// framing returns a parameter that makes the target tell the length, or not.
func (v *viewer) framing() string {
	if v.rng.IntN(2) == 0 {
		return "&length=1"
	}
	return ""
}

func (p payload) query() string { return fmt.Sprintf("?seed=%d&size=%d", p.seed, p.size) }

func (v *viewer) get(ctx context.Context, path string, p payload) (outcome, error) {
	resp, out, err := v.do(ctx, path, nil, 0)
	if resp == nil {
		return out, err
	}
	return checkBody(resp, p)
}

func (v *viewer) small(ctx context.Context, _ context.CancelFunc) (outcome, error) {
	p := v.payload(256)
	return v.get(ctx, "/down"+p.query()+"&length=1", p)
}

const maxBody = 512 << 10

func (v *viewer) download(ctx context.Context, _ context.CancelFunc) (outcome, error) {
	p := v.payload(maxBody)
	return v.get(ctx, "/down"+p.query()+v.framing(), p)
}

func (v *viewer) wait(ctx context.Context, _ context.CancelFunc) (outcome, error) {
	p := v.payload(256)
	return v.get(ctx, fmt.Sprintf("/wait%s&ms=%d", p.query(), v.rng.IntN(500)), p)
}

// onlyReader hides what net/http would use to send a body a second time.
type onlyReader struct{ io.Reader }

func (v *viewer) upload(ctx context.Context, _ context.CancelFunc) (outcome, error) {
	p := v.payload(maxBody)
	v.uploads++
	id := fmt.Sprintf("%s-%d", v.name, v.uploads)
	body := onlyReader{p.reader()}
	resp, out, err := v.do(ctx, "/up"+p.query()+"&id="+id, body, v.length(p))
	if resp != nil {
		var b []byte
		b, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		switch {
		case err != nil:
			out = broken
		case string(b) != id+" is complete":
			out, err = lost, fmt.Errorf("the answer to upload %s is %q", id, b)
		case v.target.deliveries(id) == 0:
			out, err = lost, fmt.Errorf("upload %s never arrived, but has an answer", id)
		}
	}
	if v.target.deliveries(id) > 1 {
		return twice, err
	}
	return out, err
}

// length returns that of p, or -1.
func (v *viewer) length(p payload) int64 {
	if v.rng.IntN(2) == 0 {
		return int64(p.size)
	}
	return -1
}

// websocket sends bursts of numbered messages, which have to come back in
// order and unchanged.
func (v *viewer) websocket(ctx context.Context, _ context.CancelFunc) (outcome, error) {
	c, resp, err := websocket.Dial(v.traced(ctx), v.url+"/echo", &websocket.DialOptions{
		HTTPClient: v.http1,
		HTTPHeader: http.Header{"X-Forwarded-For": {v.from}},
	})
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			return v.judge(resp)
		}
		return broken, err
	}
	defer c.CloseNow()
	c.SetReadLimit(1 << 20)
	number := uint64(0)
	for range 1 + v.rng.IntN(8) {
		var burst [][]byte
		for range 1 + v.rng.IntN(6) {
			number++
			m := binary.BigEndian.AppendUint64(nil, number)
			m = append(m, payload{seed: number, size: uint64(v.rng.IntN(8 << 10))}.bytes()...)
			if err := c.Write(ctx, websocket.MessageBinary, m); err != nil {
				return brokenWebsocket(err)
			}
			burst = append(burst, m)
		}
		for _, m := range burst {
			_, got, err := c.Read(ctx)
			if err != nil {
				return brokenWebsocket(err)
			}
			if !bytes.Equal(got, m) {
				return lost, fmt.Errorf("%w: message %d came back otherwise, as %d bytes", errWrongBytes, binary.BigEndian.Uint64(m), len(got))
			}
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		return broken, err
	}
	return right, nil
}

// brokenWebsocket judges the end of a websocket that nobody has ended.
func brokenWebsocket(err error) (outcome, error) {
	if s := websocket.CloseStatus(err); s == websocket.StatusNormalClosure {
		return lost, fmt.Errorf("a normal end that nobody has asked for: %w", err)
	}
	return broken, err
}

// leaveDownload leaves in the middle of an answer, now and then without a word
// to the service.
func (v *viewer) leaveDownload(ctx context.Context, cancel context.CancelFunc) (outcome, error) {
	p := payload{seed: 1, size: 4 * maxBody}
	resp, out, err := v.do(ctx, "/down"+p.query()+v.framing(), nil, 0)
	if resp == nil {
		return out, err
	}
	io.CopyN(io.Discard, resp.Body, int64(v.rng.IntN(maxBody)))
	if c := v.conn.Load(); c != nil && v.rng.IntN(4) == 0 {
		c.Link().HalfOpen()
		c.Close() // or it would be used again
	}
	cancel()
	resp.Body.Close()
	return left, nil
}

// leaveUpload leaves in the middle of a request. The target must not take what
// it has for the whole.
func (v *viewer) leaveUpload(ctx context.Context, cancel context.CancelFunc) (outcome, error) {
	p := payload{seed: 2, size: maxBody}
	v.uploads++
	id := fmt.Sprintf("%s-%d", v.name, v.uploads)
	body := io.MultiReader(io.LimitReader(p.reader(), int64(v.rng.IntN(maxBody))), leaving(cancel))
	resp, out, err := v.do(ctx, "/up"+p.query()+"&id="+id, body, v.length(p))
	if resp != nil {
		resp.Body.Close()
		return lost, fmt.Errorf("a part of upload %s was answered with %s", id, resp.Status)
	}
	if out == broken {
		out = left
	}
	return out, err
}

// leaving is a reader at which a viewer leaves.
type leaving context.CancelFunc

func (f leaving) Read([]byte) (int, error) {
	f()
	return 0, context.Canceled
}

// leaveWait leaves before there is an answer.
func (v *viewer) leaveWait(ctx context.Context, cancel context.CancelFunc) (outcome, error) {
	t := time.AfterFunc(time.Duration(v.rng.IntN(20))*time.Millisecond, cancel)
	defer t.Stop()
	resp, out, err := v.do(ctx, "/wait?ms=10000", nil, 0)
	if resp != nil {
		resp.Body.Close()
		return lost, errors.New("an answer before its time")
	}
	if out == broken {
		out = left
	}
	return out, err
}

// broken asks for an answer that the target does not complete. It must not
// look complete.
func (v *viewer) broken(ctx context.Context, _ context.CancelFunc) (outcome, error) {
	p := payload{seed: 3, size: uint64(1 + v.rng.IntN(maxBody/4))}
	framing := v.framing()
	at := v.rng.Int64N(int64(p.size)+2) - 1 // -1: not even a header
	if framing != "" && at == int64(p.size) {
		at--
	}
	path := fmt.Sprintf("/break%s&at=%d%s", p.query(), at, framing)
	if v.rng.IntN(2) == 0 {
		path += "&reset=1"
	}
	resp, out, err := v.do(ctx, path, nil, 0)
	if resp == nil {
		return out, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil {
		return lost, fmt.Errorf("%d of %d bytes look complete (%s)", n, p.size, path)
	}
	return broken, err
}
