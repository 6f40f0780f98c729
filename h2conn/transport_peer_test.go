package h2conn_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// framedPeer is a Transport whose peer is on, which is told of each request's
// HEADERS in turn.
func framedPeer(t *testing.T, on func(fr *http2.Framer, stream uint32)) *h2conn.Transport {
	t.Helper()
	dialled, accepted := conns(t)
	over := make(chan struct{})
	go func() {
		defer close(over)
		io.ReadFull(dialled, make([]byte, len(http2.ClientPreface)))
		fr := http2.NewFramer(dialled, dialled)
		fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 100})
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *http2.SettingsFrame:
				if !f.IsAck() {
					fr.WriteSettingsAck()
				}
			case *http2.PingFrame:
				if !f.IsAck() {
					fr.WritePing(true, f.Data)
				}
			case *http2.HeadersFrame:
				on(fr, f.StreamID)
			}
		}
	}()
	tr, err := h2conn.NewTransport(accepted, h2conn.TransportConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tr.Close()
		dialled.Close()
		<-over
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := tr.Ping(ctx); err != nil {
		t.Fatal(err)
	}
	return tr
}

func sendNoContent(fr *http2.Framer, stream uint32) {
	var block bytes.Buffer
	hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "204"})
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
}

func ask(t *testing.T, tr *h2conn.Transport, body string) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://x/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err == nil {
		resp.Body.Close()
	}
	return err
}

// TestResetOfOneStream: whatever the code with which the peer resets a stream,
// the next one is served, and REFUSED_STREAM says that nothing was done.
func TestResetOfOneStream(t *testing.T) {
	for code := http2.ErrCodeNo; code <= http2.ErrCodeHTTP11Required; code++ {
		t.Run(code.String(), func(t *testing.T) {
			first := true
			tr := framedPeer(t, func(fr *http2.Framer, stream uint32) {
				if first {
					fr.WriteRSTStream(stream, code)
				} else {
					sendNoContent(fr, stream)
				}
				first = false
			})
			err := ask(t, tr, "body")
			if err == nil || errors.Is(err, h2conn.ErrUnprocessed) != (code == http2.ErrCodeRefusedStream) {
				t.Errorf("the first request: %v", err)
			}
			if !tr.Usable() {
				t.Error("the transport takes no more requests")
			}
			if err := ask(t, tr, "body"); err != nil {
				t.Errorf("the next request: %v", err)
			}
		})
	}
}

// TestPeerGoesAway: streams behind the last one of a GOAWAY have not been
// processed, others may have been.
func TestPeerGoesAway(t *testing.T) {
	for name, tc := range map[string]struct {
		last        uint32
		code        http2.ErrCode
		unprocessed bool
	}{
		"not processed":             {0, http2.ErrCodeNo, true},
		"not processed, by a flood": {0, http2.ErrCodeEnhanceYourCalm, true},
		"processed":                 {1<<31 - 1, http2.ErrCodeNo, false},
	} {
		t.Run(name, func(t *testing.T) {
			tr := framedPeer(t, func(fr *http2.Framer, stream uint32) {
				fr.WriteGoAway(tc.last, tc.code, nil)
				fr.WriteRSTStream(stream, http2.ErrCodeCancel)
			})
			select {
			case <-tr.GoneAway():
				t.Error("gone before it went")
			default:
			}
			if err := ask(t, tr, "body"); err == nil || errors.Is(err, h2conn.ErrUnprocessed) != tc.unprocessed {
				t.Errorf("the request: %v", err)
			}
			<-tr.GoneAway()
		})
	}
}
