package gcpace

// pauses decides how long a process has to be quiet before it gives memory back. It is
// told of each look, one every [checkInterval]. The zero value has seen nothing.
type pauses struct {
	quiet int // looks in a row that have found the process quiet
	given int // what it counts if the memory that was given back is needed again; 0: it was
	since int // looks since it was given back
	soon  int // what counted in a row within soonLooks
}

// look reports whether the process has been quiet for long enough.
func (p *pauses) look(quiet bool) bool {
	if p.since++; p.given > 0 && p.since > soonLooks {
		p.given, p.soon = 0, 0
	}
	if quiet {
		p.quiet++
		return p.soon < soonEnough || p.quiet >= soonLooks
	}
	p.quiet = 0
	p.soon += p.given
	p.given = 0
	return false
}

// gaveBack says that memory has been given back, and whether that was load's, beside peers
// that have been there for long.
func (p *pauses) gaveBack(settled bool) {
	p.given, p.since = 1, 0
	if settled {
		p.given = soonEnough
	}
}
