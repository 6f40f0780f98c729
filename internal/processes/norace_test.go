//go:build linux && !race

package processes

const raceEnabled = false
