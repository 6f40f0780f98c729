package h2conn

import (
	"io"
	"sync/atomic"
)

// Memory is told what the peer of one connection makes this process hold, and
// may hold the peer up. The zero value does nothing.
type Memory struct {
	// Held, if not nil, is called with each change of the number of bytes of DATA
	// that have come and that nobody has read, and of what trailers cost: at the
	// answering end until the answer is over, at the asking end see
	// [Transport.TrailersRead]. It must not block.
	Held func(delta int64)

	// Room, if not nil, is called before each read from the connection, which it
	// holds up until it returns.
	Room func()

	// Streams says that [Transport.ChargeStream] or [ChargeRequest] will be called for
	// single streams.
	Streams bool
}

// reader returns r, held up by Room.
func (m Memory) reader(r io.Reader) io.Reader {
	if m.Room == nil {
		return r
	}
	return roomyReader{r, m.Room}
}

type roomyReader struct {
	io.Reader
	room func()
}

func (r roomyReader) Read(p []byte) (int, error) {
	r.room()
	return r.Reader.Read(p)
}

// inflow knows how many bytes of DATA one end of a connection holds that nobody
// has read: what flow control lets the peer send less than at the start. x/net
// gives the connection's window back as bodies are read, or closed.
type inflow struct {
	window atomic.Int64 // what the peer may send now
	most   atomic.Int64 // what it may send when nothing is held

	// changed, if not nil, is called with each change of held, by the
	// goroutine that reads or the one that writes.
	changed func(delta int64)
}

// received says that n bytes of DATA have come, padding included.
func (f *inflow) received(n int64) {
	f.window.Add(-n)
	if f.changed != nil && n > 0 {
		f.changed(n)
	}
}

// granted says that the peer may send n more. Above what it could send before,
// that makes the window larger, as both ends of x/net do at the start.
func (f *inflow) granted(n int64) {
	window := f.window.Add(n)
	if more := window - f.most.Load(); more > 0 {
		f.most.Add(more)
		n -= more
	}
	if f.changed != nil && n > 0 {
		f.changed(-n)
	}
}

// exceeded reports whether the peer has sent more than it may. What it may send at the
// start, before it is told of more, counts for nothing else.
func (f *inflow) exceeded() bool { return f.held() > f.most.Load()+minFirstWindow }

// held returns how many bytes are held.
func (f *inflow) held() int64 { return f.most.Load() - f.window.Load() }
