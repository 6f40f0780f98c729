package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
	"github.com/websocktunnel/websocktunnel/cmd/internal/logqueue"
)

const (
	// syslogMaxMessage is the size of the largest message: what receivers
	// should be able to take (RFC 5424, section 6.1) and some more.
	syslogMaxMessage = 8 << 10
	// syslogDialTimeout bounds looking up the server's name.
	syslogDialTimeout = 5 * time.Second
	// syslogRedial is how often the name is looked up anew.
	syslogRedial = time.Minute
	// syslogReport is how often it is said that sending fails.
	syslogReport = 10 * time.Minute
)

// syslogWriter sends log lines to a syslog server by UDP (RFC 5424 and 5426).
// It never makes the caller wait: its queue sends, and what that cannot keep
// up with, or cannot send, is lost and counted. log/syslog of the standard
// library would block on a name that does not resolve, and is not there on
// Windows.
type syslogWriter struct {
	// Static after newSyslog.
	addr   string
	header string // between time stamp and text
	report func(error)

	queue  *logqueue.Queue
	ctx    context.Context
	cancel context.CancelFunc

	// Owned by the queue's goroutine.
	conn     net.Conn
	dialled  time.Time
	reported time.Time
}

var _ zerolog.LevelWriter = (*syslogWriter)(nil)

// newSyslog returns a writer to the server at addr. When sending fails it calls
// report, from its own goroutine, now and then. It must be closed.
func newSyslog(addr string, report func(error)) *syslogWriter {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "-"
	}
	w := &syslogWriter{
		addr:   addr,
		header: fmt.Sprintf("%.255s websocktunnel %d - - ", host, os.Getpid()),
		report: report,
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.queue = logqueue.New(datagrams{w}, func(dropped uint64) []byte {
		var b bytes.Buffer
		cliapp.LogDropped(zerolog.New(&b), dropped)
		return w.message(zerolog.WarnLevel, b.Bytes())
	})
	return w
}

// Write is for lines without a level.
func (w *syslogWriter) Write(p []byte) (int, error) { return w.WriteLevel(zerolog.InfoLevel, p) }

// WriteLevel queues one line.
func (w *syslogWriter) WriteLevel(level zerolog.Level, p []byte) (int, error) {
	_, err := w.queue.Write(w.message(level, p))
	return len(p), err
}

// message returns the datagram for one line.
func (w *syslogWriter) message(level zerolog.Level, p []byte) []byte {
	const facilityDaemon = 3
	text := bytes.TrimRight(p, "\n")
	text = text[:min(len(text), syslogMaxMessage)]
	return fmt.Appendf(nil, "<%d>1 %s %s%s", facilityDaemon*8+cliapp.Severity(level),
		time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), w.header, text)
}

// close sends the queued lines, as long as that takes no more than a moment.
func (w *syslogWriter) close() {
	ended := w.queue.Close(cliapp.FlushTimeout)
	w.cancel()
	if !ended { // it looks up the server's name
		ended = w.queue.Close(cliapp.FlushTimeout)
	}
	if ended && w.conn != nil {
		w.conn.Close()
	}
}

// datagrams sends what is written to it. The queue writes to it.
type datagrams struct{ *syslogWriter }

// Write sends one message, and says now and then that it could not.
func (w datagrams) Write(m []byte) (int, error) {
	err := w.send(m)
	if err == nil {
		return len(m), nil
	}
	if time.Since(w.reported) > syslogReport && w.ctx.Err() == nil {
		w.reported = time.Now()
		w.report(err)
	}
	return 0, err
}

func (w *syslogWriter) send(m []byte) error {
	if w.conn == nil || time.Since(w.dialled) > syslogRedial {
		ctx, cancel := context.WithTimeout(w.ctx, syslogDialTimeout)
		defer cancel()
		conn, err := (&net.Dialer{}).DialContext(ctx, "udp", w.addr)
		switch {
		case err == nil && w.conn != nil:
			w.conn.Close()
			w.conn = conn
		case err == nil:
			w.conn = conn
		case w.conn == nil:
			return err
		}
		w.dialled = time.Now()
	}
	_, err := w.conn.Write(m)
	return err
}
