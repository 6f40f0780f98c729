package lateheader

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		new(Timer).Stop() // of one that was never used

		var stopped Timer
		flushed := false
		stopped.Start(func() { flushed = true })
		stopped.Stop()
		stopped.Stop()
		<-time.After(10 * Patience)
		if flushed {
			t.Error("it was stopped, and the function was called")
		}

		var late Timer
		done := false
		late.Start(func() {
			<-time.After(10 * Patience)
			done = true
		})
		<-time.After(2 * Patience)
		late.Stop()
		if !done {
			t.Error("Stop has returned while the function runs")
		}
		late.Stop()
	})
}
