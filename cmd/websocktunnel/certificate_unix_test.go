//go:build unix

package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// TestCertificateFromPipe: a pipe can be read once, and is not looked at again:
// to open it would wait for a writer, for ever.
func TestCertificateFromPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "key")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	cert, key := testPair(t, 1)
	c, err := newCertificate(cert, key, "", pipe)
	if err != nil {
		t.Fatal(err)
	}
	polled := make(chan struct{})
	go func() {
		defer close(polled)
		c.poll(zerolog.Nop())
	}()
	select {
	case <-polled:
	case <-time.After(5 * time.Second):
		t.Error("it waits for the pipe")
		w, err := os.OpenFile(pipe, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		<-polled
	}
}

// TestSecretFromPipe: what was in a pipe is known when the configuration is read
// again.
func TestSecretFromPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "secret")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	go os.WriteFile(pipe, []byte("canary\n"), 0o600)
	for range 2 {
		if got, err := readSecret(pipe); got != "canary" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}
}
