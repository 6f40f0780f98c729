package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// announcer tells the viewer URL to whoever started this program: in a file
// and on standard output.
type announcer struct {
	outFile string // "" for none
	json    bool
	stdout  io.Writer
	urls    chan string // holds the newest URL that is not told yet
}

func newAnnouncer(c config) *announcer {
	return &announcer{outFile: c.outFile, json: c.json, stdout: os.Stdout, urls: make(chan string, 1)}
}

// put hands over a URL and does not block. Only one goroutine may call it at a
// time.
func (a *announcer) put(url string) {
	select {
	case <-a.urls:
	default:
	}
	a.urls <- url
}

// run tells each new URL, until ctx ends or telling fails.
func (a *announcer) run(ctx context.Context) error {
	told := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case url := <-a.urls:
			if url == told {
				continue // a reconnect
			}
			if err := a.tell(url); err != nil {
				return err
			}
			told = url
		}
	}
}

// tell writes the file first: who sees the line can rely on it.
func (a *announcer) tell(url string) error {
	if a.outFile != "" {
		if err := writeFile(a.outFile, url); err != nil {
			return fmt.Errorf("--out-file %q: %w", a.outFile, err)
		}
	}
	line := url
	if a.json {
		b, err := json.Marshal(map[string]string{"url": url})
		if err != nil {
			return err
		}
		line = string(b)
	}
	if _, err := fmt.Fprintln(a.stdout, line); err != nil {
		return fmt.Errorf("printing the viewer URL: %w", err)
	}
	return nil
}

// writeFile writes text to a file, so that a reader finds all of it or no
// file. What is there and is no file, such as a pipe, is written to directly.
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
