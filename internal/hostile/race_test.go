//go:build race

package hostile

// raceDetector makes everything some ten times slower.
const raceDetector = true
