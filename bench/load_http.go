package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strconv"
	"strings"
)

// httpConn is a viewer's connection. It speaks just enough HTTP/1.1, and costs
// far less than net/http's client, because it shares the processor with the
// processes that it measures.
type httpConn struct {
	conn net.Conn
	r    *bufio.Reader
	stop func() bool
}

// dialHTTP connects. The connection closes when ctx ends.
func dialHTTP(ctx context.Context, e endpoint) (*httpConn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", e.Addr)
	if err != nil {
		return nil, err
	}
	raw := conn
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	if e.TLS {
		tc := tls.Client(conn, insecureTLS())
		if err := tc.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		conn = tc
	}
	return &httpConn{conn: conn, r: bufio.NewReader(conn), stop: stop}, nil
}

func (c *httpConn) close() {
	c.stop()
	c.conn.Close()
}

// request returns the head of a request, with further header lines in extra.
func (e endpoint) request(method, path, extra string) []byte {
	host := e.Host
	if host == "" {
		host = e.Addr
	}
	return fmt.Appendf(nil, "%s %s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\n%s\r\n", method, e.Path, path, host, extra)
}

// answer is the head of a response.
type answer struct {
	status  int
	length  int64 // -1: not known
	chunked bool
	accept  string // Sec-WebSocket-Accept
}

// readAnswer reads a response's head.
func (c *httpConn) readAnswer() (answer, error) {
	a := answer{length: -1}
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return a, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return a, fmt.Errorf("%q is no status line", line)
	}
	if a.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return a, fmt.Errorf("%q is no status line", line)
	}
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return a, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return a, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if a.length, err = strconv.ParseInt(string(value), 10, 64); err != nil {
				return a, err
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			a.chunked = true
		case bytes.EqualFold(name, []byte("Sec-WebSocket-Accept")):
			a.accept = string(value)
		}
	}
}

// body returns a reader of the body that follows a's head.
func (c *httpConn) body(a answer) io.Reader {
	switch {
	case a.chunked:
		return httputil.NewChunkedReader(c.r)
	case a.length >= 0:
		return io.LimitReader(c.r, a.length)
	case a.status == 204:
		return strings.NewReader("")
	}
	return c.r
}

// get sends a request and reads its answer, whose body must have size bytes.
func (c *httpConn) get(req []byte, size int64) error {
	if _, err := c.conn.Write(req); err != nil {
		return err
	}
	a, err := c.readAnswer()
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	if a.status != 200 {
		return c.unexpected(a)
	}
	if !a.chunked && a.length == size && size <= int64(c.r.Size()) {
		_, err := c.r.Discard(int(size)) // the common case, without garbage
		return err
	}
	n, err := io.Copy(io.Discard, c.body(a))
	switch {
	case err != nil:
		return err
	case n != size:
		return fmt.Errorf("body of %d bytes, want %d", n, size)
	case a.chunked:
		// The chunked reader leaves the line that ends the trailers.
		_, err = c.r.ReadSlice('\n')
	}
	return err
}

// unexpected returns an error with the beginning of an answer's body.
func (c *httpConn) unexpected(a answer) error {
	text, _ := io.ReadAll(io.LimitReader(c.body(a), 200))
	return fmt.Errorf("answer %d: %s", a.status, bytes.TrimSpace(text))
}

// upgrade turns the connection into a websocket to the target's echo.
func (c *httpConn) upgrade(e endpoint) error {
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	req := e.request("GET", "/echo", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "+key+"\r\n")
	if _, err := c.conn.Write(req); err != nil {
		return err
	}
	a, err := c.readAnswer()
	switch {
	case err != nil:
		return err
	case a.status != 101:
		return c.unexpected(a)
	case a.accept != acceptKey(key):
		return errors.New("the answer to the upgrade has a wrong Sec-WebSocket-Accept")
	}
	return nil
}
