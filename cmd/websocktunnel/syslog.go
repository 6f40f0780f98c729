package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	// syslogBacklog is how many lines may wait to be sent; more are dropped.
	syslogBacklog = 1024
	// syslogMaxMessage is the size of the largest message: what receivers
	// should be able to take (RFC 5424, section 6.1) and some more.
	syslogMaxMessage = 8 << 10
	// syslogDialTimeout bounds looking up the server's name.
	syslogDialTimeout = 5 * time.Second
	// syslogRedial is how often the name is looked up anew.
	syslogRedial = time.Minute
	// syslogReport is how often it is said that sending fails.
	syslogReport = 10 * time.Minute
	// syslogFlush bounds how long close takes.
	syslogFlush = time.Second
)

// syslogWriter sends log lines to a syslog server by UDP (RFC 5424 and 5426).
// It never makes the caller wait: a goroutine sends, and what it cannot keep
// up with, or cannot send, is lost. log/syslog of the standard library would
// block on a name that does not resolve, and is not there on Windows.
type syslogWriter struct {
	// Static after newSyslog.
	addr   string
	header string // what is between time stamp and text
	report func(error)

	queue  chan []byte // never closed
	ctx    context.Context
	cancel context.CancelFunc
	done   sync.WaitGroup

	// Owned by run.
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
		queue:  make(chan []byte, syslogBacklog),
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.done.Go(w.run)
	return w
}

// Write is for lines without a level.
func (w *syslogWriter) Write(p []byte) (int, error) { return w.WriteLevel(zerolog.InfoLevel, p) }

// WriteLevel queues one line.
func (w *syslogWriter) WriteLevel(level zerolog.Level, p []byte) (int, error) {
	const facilityDaemon = 3
	text := bytes.TrimRight(p, "\n")
	text = text[:min(len(text), syslogMaxMessage)]
	m := fmt.Appendf(nil, "<%d>1 %s %s%s", facilityDaemon*8+severity(level),
		time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), w.header, text)
	select {
	case w.queue <- m:
	default: // the server, or its name service, is too slow
	}
	return len(p), nil
}

// severity translates a level (RFC 5424, section 6.2.1).
func severity(level zerolog.Level) int {
	switch level {
	case zerolog.TraceLevel, zerolog.DebugLevel:
		return 7
	case zerolog.WarnLevel:
		return 4
	case zerolog.ErrorLevel:
		return 3
	case zerolog.FatalLevel, zerolog.PanicLevel:
		return 2
	}
	return 6
}

// close sends what is queued, as long as that takes no more than a moment.
func (w *syslogWriter) close() {
	// Those who log have stopped, so run finds the queue empty at some time.
	stop := time.AfterFunc(syslogFlush, w.cancel)
	defer stop.Stop()
	select {
	case w.queue <- nil:
	case <-w.ctx.Done():
	}
	w.done.Wait()
	w.cancel()
}

// run sends what is queued until it finds nil, or w is cancelled.
func (w *syslogWriter) run() {
	defer func() {
		if w.conn != nil {
			w.conn.Close()
		}
	}()
	for {
		select {
		case <-w.ctx.Done():
			return
		case m := <-w.queue:
			if m == nil {
				return
			}
			if err := w.send(m); err != nil && time.Since(w.reported) > syslogReport && w.ctx.Err() == nil {
				w.reported = time.Now()
				w.report(err)
			}
		}
	}
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
