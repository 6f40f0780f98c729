//go:build race

package reliability

// raceDetector makes everything some ten times slower.
const raceDetector = true
