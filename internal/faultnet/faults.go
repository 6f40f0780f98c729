package faultnet

import "time"

// Faults are what a direction does to all bytes in it. The zero value delivers
// them at once.
type Faults struct {
	// Delay is how long a byte takes from one end to the other.
	Delay time.Duration

	// Jitter is how much longer than Delay it may take, at random. Bytes do
	// not overtake each other.
	Jitter time.Duration

	// Rate is how many bytes a second pass. Zero means no limit.
	Rate int

	// Slice makes bytes arrive in pieces of 1 to Slice bytes: a Read returns
	// no more than one piece. Zero means as they come.
	Slice int

	// Buffer is how many bytes the direction holds that have been written and
	// not yet read; a Write that exceeds it blocks. Zero means 256 KiB. With
	// a Delay, it also limits the throughput to Buffer per Delay.
	Buffer int
}

const defaultBuffer = 256 << 10

func (f Faults) buffer() int {
	if f.Buffer <= 0 {
		return defaultBuffer
	}
	return f.Buffer
}
