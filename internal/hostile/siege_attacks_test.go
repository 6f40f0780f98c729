//go:build linux

package hostile

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// siege is one attack of a process on a service that is a process. What has to hold
// is the same for all.
type siege struct {
	name   string
	env    []string           // of the service
	attack func(a *assailant) // until a.end
}

// everything is the name of the siege that is no single peer's.
const everything = "everything at once, tenfold"

// sieges are what independent attackers have broken the service with, and variants.
var sieges = append(singleSieges, siege{everything, []string{"STARTUP_WAIT=60s"}, func(a *assailant) {
	a.scale = 10
	var all sync.WaitGroup
	for _, s := range singleSieges {
		all.Go(func() { s.attack(a) })
	}
	all.Wait()
}})

var singleSieges = []siege{
	{"refusals that nobody takes", nil, func(a *assailant) {
		a.again(100, func() {
			v, err := a.viewer(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			if err != nil {
				return
			}
			defer v.Close()
			for range 128 {
				v.ask("GET", "/", true, crumbs()...)
			}
			v.w.Flush()
			hold(v)
		})
	}},
	{"answers that nobody takes", nil, func(a *assailant) {
		go a.again(1, func() {
			a.serve("pages", func(c *client, r request) {
				c.headers(r.stream, false, ":status", "200")
				c.data(r.stream, true, strings.Repeat("x", 16000))
			})
		})
		a.again(100, func() {
			v, err := a.viewer(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			if err != nil {
				return
			}
			defer v.Close()
			for range 128 {
				v.ask("GET", "/pages/", true, crumbs()...)
			}
			v.w.Flush()
			hold(v)
		})
	}},
	{"bodies that nobody takes", nil, func(a *assailant) {
		go a.again(1, func() {
			a.serve("bodies", func(c *client, r request) {
				c.headers(r.stream, false, ":status", "200")
				for range 30 {
					c.data(r.stream, false, strings.Repeat("x", 16000))
				}
			})
		})
		a.again(100, func() {
			v, err := a.viewer(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			if err != nil {
				return
			}
			defer v.Close()
			v.ask("GET", "/"+neighbourID+"/", true) // which is answered well
			v.w.Flush()
			for range 128 {
				v.ask("GET", "/bodies/", true, crumbs()...)
			}
			v.w.Flush()
			hold(v)
		})
	}},
	{"trailers of many names", nil, func(a *assailant) {
		var names []string
		for i := range 6500 {
			names = append(names, fmt.Sprintf("!t%d", i), "")
		}
		go a.again(1, func() {
			a.serve("trailers", func(c *client, r request) {
				c.headers(r.stream, false, ":status", "200")
				c.data(r.stream, false, "x")
				c.headers(r.stream, true, names...)
			})
		})
		a.visit(16, "/trailers/")
	}},
	{"headers of many fields, in replaced sessions", nil, func(a *assailant) { a.replaced("fields", 7600) }},
	{"headers of as many fields as there may be, in replaced sessions", nil, func(a *assailant) { a.replaced("manyfields", 990) }},
	{"trailers behind bodies that nobody takes", nil, func(a *assailant) {
		a.unread("behind", func(c *client, stream uint32, many []byte) {
			c.headers(stream, false, ":status", "200")
			c.data(stream, false, strings.Repeat("x", 16000))
			c.headerBlock(stream, true, many)
		}, 6500)
	}},
	{"interim answers that nobody takes", nil, func(a *assailant) {
		a.unread("interim", func(c *client, stream uint32, many []byte) {
			for range 20 {
				c.headerBlock(stream, false, many)
			}
		}, 990, ":status", "103")
	}},
	{"trailers of requests that wait", nil, func(a *assailant) {
		go a.again(1, func() { a.serve("waits", func(*client, request) {}) })
		var trailers bytes.Buffer
		enc := hpack.NewEncoder(&trailers)
		for i := range 1700 {
			enc.WriteField(hpack.HeaderField{Name: fmt.Sprintf("t%d", i), Sensitive: true})
		}
		a.again(20, func() {
			v, err := a.viewer()
			if err != nil {
				return
			}
			defer v.Close()
			for range 100 {
				stream := v.ask("POST", "/waits/", false, hpack.HeaderField{Name: "trailer", Value: "t0"})
				v.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: trailers.Bytes(), EndStream: true, EndHeaders: true})
			}
			v.w.Flush()
			hold(v)
		})
	}},
	{"upgrades that carry nothing", nil, func(a *assailant) {
		go a.again(4, func() {
			a.serve("upgrades", func(c *client, r request) { c.headers(r.stream, false, ":status", "200") })
		})
		a.again(1500, func() {
			c, err := a.dial()
			if err != nil {
				return
			}
			defer c.Close()
			fmt.Fprint(c, "GET /upgrades/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
			hold(c)
		})
	}},
	{"slow uploads with names of trailers", nil, func(a *assailant) { a.slowUploads("names", strings.Repeat("t,", 30_000)) }},
	{"slow uploads with long names of trailers", nil, func(a *assailant) {
		a.slowUploads("longnames", strings.Repeat(strings.Repeat("t", 600)+",", 99))
	}},
	{"stalled uploads", nil, func(a *assailant) {
		go a.again(1, func() { a.serve("stalls", func(*client, request) {}) })
		a.again(10, func() {
			v, err := a.viewer()
			if err != nil {
				return
			}
			defer v.Close()
			go hold(v)
			var streams []uint32
			for range 100 {
				streams = append(streams, v.ask("POST", "/stalls/", false))
			}
			for range 32 {
				for _, s := range streams {
					v.fr.WriteData(s, false, make([]byte, 16<<10-1))
				}
			}
			if v.w.Flush() == nil {
				<-time.After(time.Second)
			}
		})
	}},
	{"requests that wait for tunnels that have not come", []string{"STARTUP_WAIT=60s"}, func(a *assailant) {
		a.again(160, func() {
			v, err := a.viewer()
			if err != nil {
				return
			}
			defer v.Close()
			for range 128 {
				v.ask("GET", "/nobody/", true, crumbs()...)
			}
			v.w.Flush()
			hold(v)
		})
	}},
	{"requests that wait for hosts of tunnels that have not come", []string{"STARTUP_WAIT=60s", "VIEWER_DOMAIN=viewers.test"}, func(a *assailant) {
		a.again(160, func() {
			v, err := a.viewer()
			if err != nil {
				return
			}
			defer v.Close()
			for i := range 128 {
				v.host = fmt.Sprintf("nobody%d.viewers.test", i)
				v.ask("GET", "/", true, crumbs()...)
			}
			v.w.Flush()
			hold(v)
		})
	}},
	{"answers over HTTP/1.1 that are taken slowly", nil, func(a *assailant) {
		go a.again(1, func() {
			a.serve("slowly", func(c *client, r request) {
				c.headers(r.stream, false, ":status", "200")
				for range 60 {
					c.data(r.stream, false, strings.Repeat("x", 16000))
				}
				c.data(r.stream, true, "x")
			})
		})
		a.again(1500, func() {
			c, err := a.dial()
			if err != nil {
				return
			}
			defer c.Close()
			_ = c.(*net.TCPConn).SetReadBuffer(2048)
			if _, err := io.WriteString(c, strings.Repeat("GET /slowly/ HTTP/1.1\r\nHost: h\r\n\r\n", 20)); err != nil {
				return
			}
			for b := make([]byte, 1); ; <-time.After(200 * time.Millisecond) {
				if _, err := c.Read(b); err != nil {
					return
				}
			}
		})
	}},
	{"refusals over HTTP/1.1 that nobody takes", nil, func(a *assailant) {
		a.again(1500, func() {
			c, err := a.dial()
			if err != nil {
				return
			}
			defer c.Close()
			_, _ = io.WriteString(c, strings.Repeat("GET /nobody/ HTTP/1.1\r\nHost: h\r\nAccept: text/html\r\n\r\n", 1000))
			<-time.After(time.Until(a.end))
		})
	}},
	{"sessions that are not finished", nil, func(a *assailant) {
		a.again(200, func() {
			c, err := a.tunnel("unfinished", false)
			if err != nil {
				return
			}
			defer c.close()
			c.nc.SetDeadline(time.Now().Add(time.Second))
			hold(c.nc)
		})
	}},
	{"sessions that are dropped at once", nil, func(a *assailant) {
		a.again(50, func() {
			if c, err := a.tunnel("dropped", false); err == nil {
				c.close()
			}
		})
	}},
	{"half a header over HTTP/1.1", nil, func(a *assailant) {
		a.again(1000, func() {
			c, err := a.dial()
			if err != nil {
				return
			}
			defer c.Close()
			fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: h\r\nX: %s", strings.Repeat("x", 60_000))
			hold(c)
		})
	}},
	{"half a header block over HTTP/2", nil, func(a *assailant) {
		a.again(1000, func() {
			v, err := a.viewer()
			if err != nil {
				return
			}
			defer v.Close()
			v.ask("GET", "/", true)
			stream, block := v.block("GET", "/", hpack.HeaderField{Name: "x", Value: strings.Repeat("~", 14_000), Sensitive: true})
			v.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block[:len(block)-1]})
			v.w.Flush()
			hold(v)
		})
	}},
	{"frames of viewers that carry nothing", nil, func(a *assailant) {
		floods := [][]byte{
			rawFrame(http2.FrameSettings, 0, 0, nil),
			rawFrame(http2.FrameWindowUpdate, 0, 0, []byte{0, 0, 0, 1}),
			rawFrame(http2.FramePriority, 0, 1, make([]byte, 5)),
			rawFrame(0x42, 0, 0, make([]byte, 10)),
			rawFrame(http2.FrameData, 0, 1, nil),
			rawFrame(http2.FramePing, 0, 0, make([]byte, 8)),
		}
		var all sync.WaitGroup
		for _, f := range floods {
			all.Go(func() {
				a.again(2, func() {
					v, err := a.viewer()
					if err != nil {
						return
					}
					defer v.Close()
					go hold(v)
					v.ask("POST", "/"+neighbourID+"/", false)
					v.w.Flush()
					for b := bytes.Repeat(f, 16<<10/len(f)); ; {
						if _, err := v.Write(b); err != nil {
							return
						}
					}
				})
			})
		}
		all.Wait()
	}},
	{"DATA on closed streams", nil, func(a *assailant) {
		go a.again(4, func() {
			a.serve("late", func(c *client, r request) {
				c.headers(r.stream, true, ":status", "200")
				c.flood(rawFrame(http2.FrameData, 0, r.stream, []byte("x")))
			})
		})
		a.visit(4, "/late/")
	}},
	{"Accept of 60 KB", nil, func(a *assailant) {
		accept := hpack.HeaderField{Name: "accept", Value: strings.Repeat("a/b;q=0.1,", 380)}
		a.again(4, func() {
			v, err := a.viewer()
			if err != nil {
				return
			}
			defer v.Close()
			go hold(v)
			fields := []hpack.HeaderField{accept, accept, accept, accept, accept, accept, accept, accept, accept, accept, accept, accept, accept, accept, accept}
			for {
				for range 5 {
					v.ask("GET", "/nobody/", true, fields...)
				}
				if v.w.Flush() != nil {
					return
				}
				<-time.After(10 * time.Millisecond)
			}
		})
	}},
}

// visit makes requests, by so many viewers, one after the other each.
func (a *assailant) visit(viewers int, path string) {
	a.again(viewers, func() {
		v, err := a.viewer()
		if err != nil {
			return
		}
		defer v.Close()
		answered := make(chan struct{}, 1000)
		go func() {
			defer close(answered)
			fr := http2.NewFramer(nil, v.Conn)
			for {
				f, err := fr.ReadFrame()
				if err != nil {
					return
				}
				if kind := f.Header().Type; f.Header().Flags&http2.FlagDataEndStream != 0 && (kind == http2.FrameData || kind == http2.FrameHeaders) || kind == http2.FrameRSTStream {
					answered <- struct{}{}
				}
			}
		}()
		for {
			v.ask("GET", path, true)
			if v.w.Flush() != nil {
				return
			}
			select {
			case _, ok := <-answered:
				if !ok {
					return
				}
			case <-time.After(time.Second):
			}
		}
	})
}

// replaced replaces a session again and again whose 200 answers have that many fields
// and no end.
func (a *assailant) replaced(id string, fields int) {
	kv := []string{":status", "200"}
	for range fields {
		kv = append(kv, "x", "y")
	}
	a.again(1, func() {
		c, err := a.tunnel(id, true)
		if err != nil {
			return
		}
		<-time.After(50 * time.Millisecond)
		v, err := a.viewer()
		if err != nil {
			return
		}
		v2, err := a.viewer()
		if err != nil {
			return
		}
		for range 100 {
			v.ask("GET", "/"+id+"/", true)
			v2.ask("GET", "/"+id+"/", true)
		}
		v.w.Flush()
		v2.w.Flush()
		go hold(v)
		go hold(v2)
		for range 200 {
			select {
			case r := <-c.requests:
				c.headers(r.stream, false, kv...)
			case <-c.closed:
				return
			case <-time.After(500 * time.Millisecond):
				return
			}
		}
	})
}

// slowUploads are chunked ones, over HTTP/1.1, with that Trailer.
func (a *assailant) slowUploads(id, trailer string) {
	go a.again(1, func() { a.serve(id, func(*client, request) {}) })
	a.again(200, func() {
		c, err := a.dial()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprintf(c, "POST /%s/ HTTP/1.1\r\nHost: h\r\nTrailer: %s\r\nTransfer-Encoding: chunked\r\n\r\n", id, trailer)
		go hold(c)
		for {
			if _, err := io.WriteString(c, "1\r\nx\r\n"); err != nil {
				return
			}
			<-time.After(200 * time.Millisecond)
		}
	})
}

// unread has 64 viewers that take nothing from the first byte on ask for answers, which are
// what answer sends: many is a header block with so many names behind kv. The tunnel is
// registered again and again.
func (a *assailant) unread(id string, answer func(c *client, stream uint32, many []byte), names int, kv ...string) {
	for i := range names {
		kv = append(kv, fmt.Sprintf("!t%d", i), "")
	}
	go a.again(2, func() {
		c, err := a.tunnel(id, true)
		if err != nil {
			return
		}
		defer c.close()
		many := c.encode(kv...)
		for range 200 {
			select {
			case r := <-c.requests:
				answer(c, r.stream, many)
			case <-c.closed:
				return
			case <-time.After(500 * time.Millisecond):
				return
			}
		}
		<-time.After(time.Until(a.end))
	})
	a.again(64, func() {
		v, err := a.viewer(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		if err != nil {
			return
		}
		defer v.Close()
		v.Conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		for range 128 {
			v.ask("GET", "/"+id+"/", true)
		}
		v.w.Flush()
		<-time.After(3 * time.Second) // without a Read
	})
}
