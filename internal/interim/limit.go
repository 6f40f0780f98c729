// Package interim bounds the interim (1xx) answers to a request. Their number has
// no bound (RFC 9110, section 15.2): a request that takes hours may have thousands.
// What comes faster than anybody needs it is dropped, for nothing depends on an
// interim answer, and only a flood is an error.
package interim

import (
	"errors"
	"net/http"
	"time"
)

// Interim answers are counted in units: one for each, and one for each KiB of its
// header.
const (
	// Burst is how many units pass at once, and rate how many in each second.
	Burst = 20
	rate  = 10

	// Flood is how many units may come at once, and floodRate in each second.
	Flood     = 1000
	floodRate = 100
)

// ErrFlood is about an answer that is one interim answer after the other.
var ErrFlood = errors.New("a flood of interim answers")

// A Limit is that of one request. The zero value is ready to use. One goroutine at
// a time may use it.
type Limit struct {
	last           time.Time // of the last Admit; zero before the first
	passes, floods float64   // units that are used up
}

// Admit reports whether an interim answer with header h may pass on. It returns
// ErrFlood if there are so many of them that the request has failed.
func (l *Limit) Admit(h http.Header) (bool, error) {
	units := 1.0
	for k, vv := range h {
		for _, v := range vv {
			units += float64(len(k)+len(v)+32) / 1024
		}
	}
	now := time.Now()
	if !l.last.IsZero() {
		passed := now.Sub(l.last).Seconds()
		l.passes = max(0, l.passes-passed*rate)
		l.floods = max(0, l.floods-passed*floodRate)
	}
	l.last = now
	if l.floods += units; l.floods > Flood {
		return false, ErrFlood
	}
	if l.passes+units > Burst+1 { // and a fraction for the headers of the last
		return false, nil
	}
	l.passes += units
	return true, nil
}
