//go:build race

package hostile

// raceDetector makes everything some ten times slower, slowness the tests more patient.
const (
	raceDetector = true
	slowness     = 4
)
