package h2conn_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// TestRestingStack: the goroutine that reads waits with so little on its stack that one
// which has grown to 8 KiB becomes one of 4 KiB again. That is seen by the address of a
// variable, which a copy of the stack changes.
func TestRestingStack(t *testing.T) {
	if raceEnabled || !h2conn.FindsClientBuffers || !h2conn.ReadsOnce {
		t.Skip("the race detector needs more stack, and other builds wait where more of it is used")
	}
	dialled, accepted := conns(t)
	at := make(chan [2]uintptr, 1)
	accepted.OnControl(func([]byte) {
		var here byte
		first := uintptr(unsafe.Pointer(&here))
		needStack(3 << 10)
		at <- [2]uintptr{first, uintptr(unsafe.Pointer(&here))}
	})
	go h2conn.Serve(t.Context(), dialled, http.NotFoundHandler(), h2conn.ServeConfig{})
	tr, err := h2conn.NewTransport(accepted, h2conn.TransportConfig{})
	if err != nil {
		t.Fatal(err)
	}
	var before uintptr
	for n := range 200 {
		if err := dialled.SendControl([]byte("{}")); err != nil {
			t.Fatal(err)
		}
		now := <-at
		if n > 1 && now[0] != before { // before, it was not called from as deep
			return
		}
		before = now[1]
		if err := tr.Ping(t.Context()); err != nil { // after a control message it waits deeper down
			t.Fatal(err)
		}
		for !readersWait() {
			runtime.Gosched()
		}
		runtime.GC()
	}
	t.Error("the stack has not moved")
}

// readersWait reports whether all goroutines that read at asking ends wait for the network.
func readersWait() bool {
	stacks := make([]byte, 1<<20)
	for g := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		if strings.Contains(g, "http2.(*ClientConn).readLoop") && !strings.Contains(g, "[IO wait") {
			return false
		}
	}
	return true
}

//go:noinline
func needStack(depth int) {
	var frame [256]byte
	if depth > len(frame) {
		needStack(depth - len(frame))
	}
	runtime.KeepAlive(&frame)
}

// TestCloseWithinMessage: the code of a peer that closes between two fragments of a message
// is known, although nothing waits for a message then.
func TestCloseWithinMessage(t *testing.T) {
	h, got := accepting(t, h2conn.AcceptOptions{Subprotocol: testSubprotocol})
	srv := httptest.NewServer(h)
	defer srv.Close()
	ws, _, err := websocket.Dial(t.Context(), srv.URL, &websocket.DialOptions{Subprotocols: []string{testSubprotocol}})
	if err != nil {
		t.Fatal(err)
	}
	accepted, ok := <-got
	if !ok {
		t.FailNow()
	}
	tr, err := h2conn.NewTransport(accepted, h2conn.TransportConfig{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := ws.Writer(t.Context(), websocket.MessageBinary)
	if err != nil {
		t.Fatal(err)
	}
	http2.NewFramer(w, nil).WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 100})
	read := make(chan struct{})
	go func() {
		defer close(read)
		for {
			if _, _, err := ws.Read(t.Context()); err != nil {
				return
			}
		}
	}()
	if err := ws.Ping(t.Context()); err != nil { // the answer says that the fragment has been read
		t.Error(err)
	}
	ws.Close(4001, "why")
	<-read
	<-tr.Done()
	var ce *h2conn.CloseError
	if err := accepted.Err(); !errors.As(err, &ce) || ce.Code != 4001 {
		t.Errorf("got %v", err)
	}
}
