//go:build linux

package hostile

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
)

// attackMain is the process of a besieger. It returns false in any other.
func attackMain() bool {
	name := os.Getenv("WST_SIEGE")
	if name == "" {
		return false
	}
	if name == "sink" {
		runSink()
		return true
	}
	during, err := time.ParseDuration(os.Getenv("WST_SIEGE_TIME"))
	if err != nil {
		panic(err)
	}
	a := &assailant{addr: os.Getenv("WST_SIEGE_ADDR"), end: time.Now().Add(during), scale: 1}
	for _, s := range sieges {
		if s.name == name {
			s.attack(a)
		}
	}
	<-time.After(time.Until(a.end))
	return true
}

// runSink takes what is sent to it, and answers no more than it takes to be sent more.
func runSink() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(os.Stdout, ln.Addr())
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			br := bufio.NewReader(c)
			if line, _ := br.ReadString('\n'); strings.HasPrefix(line, "GET / ") {
				io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			} else {
				http2.NewFramer(c, nil).WriteSettings()
			}
			io.Copy(io.Discard, br)
		}()
	}
}

// assailant is who attacks, from an address that is not the neighbour's.
type assailant struct {
	addr  string
	end   time.Time // of the attack
	scale int       // of the number of connections
}

// again runs f n times at once, and each time again when it is over. It returns soon
// after the end.
func (a *assailant) again(n int, f func()) {
	var all sync.WaitGroup
	for range n * a.scale {
		all.Go(func() {
			for time.Now().Before(a.end) {
				f()
				<-time.After(10 * time.Millisecond)
			}
		})
	}
	all.Wait()
}

// dial connects. The connection ends with the attack.
func (a *assailant) dial() (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(cmp.Or(os.Getenv("WST_SIEGE_FROM"), "127.0.0.2"))}, Timeout: 5 * time.Second}
	c, err := d.Dial("tcp", a.addr)
	if err == nil {
		c.SetDeadline(a.end)
	}
	return c, err
}

// hold keeps a connection until its peer or the attack ends.
func hold(c net.Conn) { io.Copy(io.Discard, c) }

// besiegingViewer is a viewer on HTTP/2.
type besiegingViewer struct {
	net.Conn
	fr   *http2.Framer
	w    *bufio.Writer
	enc  *hpack.Encoder
	buf  bytes.Buffer
	next uint32
	host string // that it asks; "h" if empty
}

// viewer connects over HTTP/2, with these settings.
func (a *assailant) viewer(settings ...http2.Setting) (*besiegingViewer, error) {
	c, err := a.dial()
	if err != nil {
		return nil, err
	}
	v := &besiegingViewer{Conn: c, w: bufio.NewWriterSize(c, 64<<10), next: 1}
	v.fr = http2.NewFramer(v.w, nil)
	v.fr.AllowIllegalWrites = true
	v.enc = hpack.NewEncoder(&v.buf)
	io.WriteString(v.w, http2.ClientPreface)
	v.fr.WriteSettings(settings...)
	return v, nil
}

// block encodes a request with these fields, and returns its stream.
func (v *besiegingViewer) block(method, path string, fields ...hpack.HeaderField) (uint32, []byte) {
	v.buf.Reset()
	for _, f := range append([]hpack.HeaderField{{Name: ":method", Value: method}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: path}, {Name: ":authority", Value: cmp.Or(v.host, "h")}}, fields...) {
		v.enc.WriteField(f)
	}
	v.next += 2
	return v.next - 2, v.buf.Bytes()
}

// ask sends a request.
func (v *besiegingViewer) ask(method, path string, end bool, fields ...hpack.HeaderField) uint32 {
	stream, block := v.block(method, path, fields...)
	v.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndStream: end, EndHeaders: true})
	return stream
}

// crumbs are cookies that take few bytes on the wire and 60 KB joined.
func crumbs() (all []hpack.HeaderField) {
	for range 15 {
		all = append(all, hpack.HeaderField{Name: "cookie", Value: strings.Repeat("c", 3900)})
	}
	return all
}

// tunnel registers a tunnel client, which begins HTTP/2 if asked to. It ends with the
// attack.
func (a *assailant) tunnel(id string, begin bool) (*client, error) {
	c, err := dial(a.addr, id, tunneltest.Token(tb{}, id))
	if err != nil {
		return nil, err
	}
	c.nc.SetDeadline(a.end)
	if begin {
		c.start()
		c.h2(func(w *http2.Framer) {
			w.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 250})
		})
	}
	return c, nil
}

// serve registers a tunnel client and answers its requests with f until it is over.
func (a *assailant) serve(id string, f func(c *client, r request)) {
	c, err := a.tunnel(id, true)
	if err != nil {
		return
	}
	defer c.close()
	for {
		select {
		case r := <-c.requests:
			f(c, r)
		case <-c.closed:
			return
		}
	}
}
