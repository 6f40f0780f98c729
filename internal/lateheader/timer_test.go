package lateheader

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestTimer(t *testing.T) {
	const patience = time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		new(Timer).Stop() // of one that was never used

		var stopped Timer
		flushed := false
		stopped.Start(patience, func() { flushed = true })
		stopped.Stop()
		stopped.Stop()
		<-time.After(10 * patience)
		if flushed {
			t.Error("it was stopped, and the function was called")
		}

		var late Timer
		done := false
		late.Start(patience, func() {
			<-time.After(10 * patience)
			done = true
		})
		<-time.After(2 * patience)
		late.Stop()
		if !done {
			t.Error("Stop has returned while the function runs")
		}
		late.Stop()
	})
}
