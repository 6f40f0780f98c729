package h2conn

import (
	"bufio"
	"bytes"
	"io"
	"reflect"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// x/net gives each ClientConn two buffers of 4 KiB, and three that grow to the
// largest frame that has come or gone and never shrink. An idle tunnel needs none of
// them, and x/net has no option for their sizes. So they are found by the names of
// private fields. Where there are no such fields, as with Go 1.27 and later without
// the build tag http2legacy, they stay as they are. A test pins both cases.
//
// What is read goes past the one for reading, through a buffer that a connection has only
// while something comes.
const (
	clientReadBuffer  = 16 // the least that bufio can do
	clientWriteBuffer = 64 // some small frames; larger ones pass it by
)

// clientBuffers are the buffers of one ClientConn.
type clientBuffers struct {
	// Owned by the goroutine that reads.
	reader *bufio.Reader
	source *io.Reader // what frames are read from: reader
	frame  *[]byte    // the last frame that has come

	writeMu   *sync.Mutex // guards the following
	writer    *bufio.Writer
	out       *[]byte         // the last frame that has gone
	header    *bytes.Buffer   // the last header
	encoder   **hpack.Encoder // of headers
	tableSize *uint32         // which the peer admits for what it remembers of headers
	encoded   uint32          // the last stream with a header of which the encoder has remembered nothing
}

// findsClientBuffers says whether this x/net has the fields that are used.
var findsClientBuffers = hasField[http2.ClientConn, *bufio.Reader]("br") && hasField[http2.ClientConn, *http2.Framer]("fr") &&
	hasField[http2.ClientConn, sync.Mutex]("wmu") && hasField[http2.ClientConn, *bufio.Writer]("bw") && hasField[http2.ClientConn, bytes.Buffer]("hbuf") &&
	hasField[http2.ClientConn, *hpack.Encoder]("henc") && hasField[http2.ClientConn, uint32]("peerMaxHeaderTableSize") &&
	hasField[http2.ClientConn, uint32]("atomicReused") && hasField[http2.ClientConn, sync.Mutex]("mu") && hasField[http2.ClientConn, uint32]("maxFrameSize") &&
	hasField[http2.Framer, io.Reader]("r") && hasField[http2.Framer, []byte]("readBuf") && hasField[http2.Framer, []byte]("wbuf") && hasField[bufio.Writer, []byte]("buf")

func hasField[S, T any](name string) bool {
	f, ok := reflect.TypeFor[S]().FieldByName(name)
	return ok && f.Type == reflect.TypeFor[T]()
}

// field returns a field of *s for which hasField is true.
func field[T, S any](s *S, name string) *T {
	f, _ := reflect.TypeFor[S]().FieldByName(name)
	return (*T)(unsafe.Add(unsafe.Pointer(s), f.Offset))
}

// buffersOf returns the buffers of cc. It needs findsClientBuffers.
func buffersOf(cc *http2.ClientConn) *clientBuffers {
	framer := *field[*http2.Framer](cc, "fr")
	return &clientBuffers{
		reader: *field[*bufio.Reader](cc, "br"), source: field[io.Reader](framer, "r"), frame: field[[]byte](framer, "readBuf"),
		writeMu: field[sync.Mutex](cc, "wmu"), writer: *field[*bufio.Writer](cc, "bw"),
		out: field[[]byte](framer, "wbuf"), header: field[bytes.Buffer](cc, "hbuf"),
		encoder: field[*hpack.Encoder](cc, "henc"), tableSize: field[uint32](cc, "peerMaxHeaderTableSize"),
	}
}

// forgetsSoon has x/net forget cc when it ends, as it does with connections that have
// been used again. It would keep others for five seconds, for a pool that has none of ours.
func forgetsSoon(cc *http2.ClientConn) {
	atomic.StoreUint32(field[uint32](cc, "atomicReused"), 1)
}

// replaceReader has frames read from r itself. It has to be called in the first Read of
// r. What that and the next ones return, until it is as much as the header of the first
// frame, goes through the old reader still, and more may not.
func (b *clientBuffers) replaceReader(r io.Reader) {
	*b.reader = *bufio.NewReaderSize(r, clientReadBuffer)
	*b.source = r
}

// shrinkWriter makes the buffer for writing small, gives up the others of that
// direction where they are large, and has the encoder of headers forget those of the
// streams up to newest. It does nothing while something is being written.
func (b *clientBuffers) shrinkWriter(newest uint32) {
	if !b.writeMu.TryLock() {
		return
	}
	defer b.writeMu.Unlock()
	if newest != b.encoded {
		b.encoded = newest
		e := hpack.NewEncoder(b.header)
		// So the next header tells the peer to forget them too (RFC 7541, section 4.2).
		e.SetMaxDynamicTableSize(0)
		e.SetMaxDynamicTableSize(*b.tableSize)
		*b.encoder = e
	}
	if b.writer.Buffered() == 0 && b.writer.Size() > clientWriteBuffer {
		*field[[]byte](b.writer, "buf") = make([]byte, clientWriteBuffer)
	}
	if cap(*b.out) > clientWriteBuffer {
		*b.out = nil
	}
	if b.header.Cap() > clientWriteBuffer {
		*b.header = bytes.Buffer{}
	}
}

// plainFrame is the size of the buffer for all frames but those of bulk data on a fast link.
const plainFrame = 64 << 10

// frameBuffers and bulkFrames are for the frames of connections on which something comes.
var (
	frameBuffers = sync.Pool{New: func() any { return new([plainFrame]byte) }}
	bulkFrames   = sync.Pool{New: func() any { return new([askingMaxFrameSize]byte) }}
)

// lendFrame provides a buffer for frames, of which one with length bytes has begun. It
// returns how many bytes that takes above plainFrame.
func (b *clientBuffers) lendFrame(length int) (more int) {
	if *b.frame != nil {
		return 0
	}
	if length > plainFrame {
		*b.frame = bulkFrames.Get().(*[askingMaxFrameSize]byte)[:]
		return askingMaxFrameSize - plainFrame
	}
	*b.frame = frameBuffers.Get().(*[plainFrame]byte)[:]
	return 0
}

// takeFrame takes it away. No frame may be in use.
func (b *clientBuffers) takeFrame() {
	switch f := *b.frame; cap(f) {
	case plainFrame:
		frameBuffers.Put((*[plainFrame]byte)(f[:plainFrame]))
	case askingMaxFrameSize:
		bulkFrames.Put((*[askingMaxFrameSize]byte)(f[:askingMaxFrameSize]))
	}
	*b.frame = nil
}
