package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
)

// fileWait is how long the line on standard output waits for the file: if that
// is a pipe, perhaps nobody reads it.
const fileWait = 5 * time.Second

// announcer writes the client URL to a file and to standard output. Nothing
// else waits for it.
type announcer struct {
	outFile  string // "" for none
	json     bool
	stdout   io.Writer
	terminal bool // stdout is one
	log      zerolog.Logger
	urls     chan string // holds the newest URL that is not written yet
}

func newAnnouncer(c config) *announcer {
	return &announcer{outFile: c.outFile, json: c.json, stdout: os.Stdout, terminal: cliapp.IsTerminal(os.Stdout), log: c.log, urls: make(chan string, 1)}
}

// put hands over a URL and does not block. Only one goroutine may call it at a
// time.
func (a *announcer) put(url string) { putNewest(a.urls, url) }

// putNewest puts url into c, which has room for one, in place of an older one.
func putNewest(c chan string, url string) {
	select {
	case <-c:
	default:
	}
	c <- url
}

// run writes each new URL, until ctx ends or writing fails. The file comes
// first, so that it exists when the line appears, unless it is a pipe that
// nobody reads.
func (a *announcer) run(ctx context.Context) error {
	files, written := make(chan string, 1), make(chan writtenURL, 1)
	defer close(files)
	if a.outFile != "" {
		go a.writeFiles(files, written)
	}
	var (
		last    string // the newest URL
		waiting bool   // its line waits for the file
		late    <-chan time.Time
	)
	for {
		select {
		case <-ctx.Done():
			return nil
		case url := <-a.urls:
			if url == last {
				continue // a reconnect
			}
			last, waiting = url, true
			if a.outFile != "" {
				putNewest(files, url)
				late = time.After(fileWait)
				continue
			}
		case w := <-written:
			if errors.Is(w.err, syscall.EPIPE) {
				a.log.Warn().Str("file", a.outFile).Msg("--out-file: the reader of the pipe has gone")
			} else if w.err != nil {
				return fmt.Errorf("--out-file %q: %w", a.outFile, w.err)
			}
			if w.url != last {
				continue
			}
		case <-late:
			if waiting {
				a.log.Warn().Str("file", a.outFile).Msg("--out-file: nobody reads the pipe")
			}
		}
		if waiting {
			waiting = false
			if err := a.print(last); err != nil {
				return err
			}
		}
	}
}

// writtenURL is a URL that was written to the file, or could not be.
type writtenURL struct {
	url string
	err error
}

// writeFiles writes each of urls to the file.
func (a *announcer) writeFiles(urls <-chan string, written chan<- writtenURL) {
	for url := range urls {
		w := writtenURL{url, writeFile(a.outFile, url)}
		select {
		case written <- w:
		default: // standard output is blocked, and the last result still waits
		}
	}
}

// print writes the line on standard output. A reader that has gone is no fault.
// On a terminal the URL ends in a slash: a click there opens a page.
func (a *announcer) print(url string) error {
	line := url
	switch {
	case a.json:
		b, err := json.Marshal(map[string]string{"url": url})
		if err != nil {
			return err
		}
		line = string(b)
	case a.terminal:
		line += "/"
	}
	_, err := fmt.Fprintln(a.stdout, line)
	if errors.Is(err, syscall.EPIPE) {
		a.log.Warn().Msg("the reader of standard output has gone: the client URL is not printed")
		return nil
	}
	if err != nil {
		return fmt.Errorf("printing the client URL: %w", err)
	}
	return nil
}

// writeFile writes text to a file atomically: a reader finds all of it or no file.
// It writes directly to anything else that is there, such as a pipe.
func writeFile(path, text string) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(text)
		if e := f.Close(); err == nil {
			err = e
		}
		return err
	}

	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it has been renamed
	_, err = f.WriteString(text)
	if e := f.Chmod(0o644); err == nil {
		err = e
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
