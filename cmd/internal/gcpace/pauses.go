package gcpace

// pauses decides how long a process has to be quiet before it gives memory back. It is
// told of each look, one every [checkInterval]. The zero value has seen nothing.
type pauses struct {
	quiet int  // looks in a row that have found the process quiet
	given bool // memory has been given back, and is not needed yet
	since int  // looks since then
	soon  int  // times in a row that it was needed again within soonLooks
}

// look reports whether the process has been quiet for long enough.
func (p *pauses) look(quiet bool) bool {
	if p.since++; p.given && p.since > soonLooks {
		p.given, p.soon = false, 0
	}
	if quiet {
		p.quiet++
		return p.soon < soonInARow || p.quiet >= soonLooks
	}
	p.quiet = 0
	if p.given {
		p.given = false
		p.soon++
	}
	return false
}

// gaveBack says that memory has been given back.
func (p *pauses) gaveBack() { p.given, p.since = true, 0 }
