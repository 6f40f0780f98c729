package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// announcer writes the viewer URL to a file and to standard output.
type announcer struct {
	outFile string // "" for none
	json    bool
	stdout  io.Writer
	urls    chan string // holds the newest URL that is not written yet
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

// run writes each new URL, until ctx ends or writing fails.
func (a *announcer) run(ctx context.Context) error {
	last := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case url := <-a.urls:
			if url == last {
				continue // a reconnect
			}
			if err := a.write(url); err != nil {
				return err
			}
			last = url
		}
	}
}

// write writes the file first, so that it exists when the line appears.
func (a *announcer) write(url string) error {
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
