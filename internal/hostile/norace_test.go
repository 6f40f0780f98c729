//go:build !race

package hostile

const (
	raceDetector = false
	slowness     = 1
)
