package cliapp

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

// signalEcho is for how long after a signal another one counts as the same.
// timeout(1) signals a program and then its whole group, and where a parent
// passes on the Ctrl-C of a terminal, as npm does, the program gets two.
const signalEcho = 100 * time.Millisecond

// SurviveReaders keeps the program alive when the reader of its standard output
// or standard error goes away: a write then fails, rather than ending the
// program with SIGPIPE.
func SurviveReaders() { signal.Ignore(syscall.SIGPIPE) }

// IgnoreHangup keeps the program alive when its terminal is closed.
func IgnoreHangup() { signal.Ignore(syscall.SIGHUP) }

// Hangups returns the signals that ask the program to read its configuration
// again. stop gives them back to the system.
func Hangups() (signals <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1) // a second one asks for nothing more
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}

// StopSignals returns the signals that ask the program to stop, without echoes.
// stop gives them back to the system.
func StopSignals() (signals <-chan os.Signal, stop func()) {
	all, heard := make(chan os.Signal, 2), make(chan os.Signal, 2)
	signal.Notify(all, os.Interrupt, syscall.SIGTERM)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		var last time.Time
		for {
			select {
			case sig := <-all:
				if time.Since(last) < signalEcho {
					continue
				}
				last = time.Now()
				select {
				case heard <- sig:
				default: // two wait already: nobody listens any more
				}
			case <-done:
				return
			}
		}
	}()
	return heard, func() {
		signal.Stop(all)
		close(done)
		<-ended
	}
}
