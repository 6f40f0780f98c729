package main

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// targetSettings are those of the role target.
type targetSettings struct {
	TLS certFiles `json:"tls"`
}

// runTarget is the HTTP server that everything leads to.
func runTarget(ctx context.Context, s targetSettings) error {
	return serve(ctx, &http.Server{Handler: targetHandler(), ReadHeaderTimeout: time.Minute}, s.TLS)
}

// targetHandler answers:
//
//	/bytes?n=N          N bytes, with their length in the header
//	/endless            bytes for as long as they are taken
//	/sink               204, after the whole request body has been read
//	/arrived            how many bytes of such bodies have been read until now
//	/echo               a websocket that echoes
//	/events?every=D     server-sent events, each with the time when it was sent
func targetHandler() http.Handler {
	filler := make([]byte, 128<<10)
	for i := range filler {
		filler[i] = "0123456789abcdef"[i%16]
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/bytes", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.FormValue("n"), 10, 64)
		if err != nil || n < 0 {
			http.Error(w, "n must be a number", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		for n > 0 {
			k, err := w.Write(filler[:min(n, int64(len(filler)))])
			if err != nil {
				return
			}
			n -= int64(k)
		}
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		for {
			if _, err := w.Write(filler); err != nil {
				return
			}
		}
	})
	var arrived atomic.Int64
	mux.HandleFunc("/sink", func(w http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 128<<10)
		for {
			n, err := r.Body.Read(buf)
			arrived.Add(int64(n))
			if err == io.EOF {
				w.WriteHeader(http.StatusNoContent)
				return
			} else if err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/arrived", func(w http.ResponseWriter, _ *http.Request) {
		// The two belong together: a read that comes between them is one of thousands.
		text, err := json.Marshal(arrivals{Bytes: arrived.Load(), Nanoseconds: time.Now().UnixNano()})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		_, _ = w.Write(text)
	})
	mux.HandleFunc("/echo", echo)
	mux.HandleFunc("/events", events)
	return mux
}

// events sends server-sent events until the viewer leaves.
func events(w http.ResponseWriter, r *http.Request) {
	every, err := time.ParseDuration(r.FormValue("every"))
	if err != nil || every <= 0 {
		http.Error(w, "every must be a duration", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	flush := http.NewResponseController(w).Flush
	if flush() != nil {
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
		if _, err := fmt.Fprintf(w, "data: %d\n\n", time.Now().UnixNano()); err != nil || flush() != nil {
			return
		}
	}
}

// echo is a websocket server for messages that never change their length: it
// sends back the payload of each frame. It reads frames itself, so that the
// target itself costs little.
func echo(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "websocket" {
		http.Error(w, "this is a websocket", http.StatusUpgradeRequired)
		return
	}
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	fmt.Fprintf(buf, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		acceptKey(r.Header.Get("Sec-WebSocket-Key")))
	for {
		if buf.Reader.Buffered() == 0 {
			if buf.Flush() != nil {
				return
			}
		}
		payload, err := readFrame(buf.Reader)
		if err != nil {
			return
		}
		if _, err := buf.Write(appendFrame(nil, payload, false)); err != nil {
			return
		}
	}
}

// acceptKey computes Sec-WebSocket-Accept (RFC 6455, section 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
