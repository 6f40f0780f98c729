package gcpace

import "testing"

// TestPauses: memory is given back at the first quiet look, but late where it was needed
// again soon: twice in a row, or once beside settled peers.
func TestPauses(t *testing.T) {
	var p pauses
	for i, tc := range []struct {
		busy, quiet int // looks
		want        int // the quiet one at which memory is given back; 0: at none
		settled     bool
	}{
		{5, 30, 1, false},
		{1, 4, 1, false},
		{1, 4, 1, false},                     // needed again soon, twice in a row
		{1, 4, 0, false},                     // so it stays in short pauses
		{100, soonLooks - 1, 0, false},       // as before
		{1, soonLooks + 2, soonLooks, false}, // but not in a long one
		{1, soonLooks - 1, 0, false},         // of which only two looks were left
		{1, 2 * soonLooks, soonLooks, false},
		{1, 4, 1, false}, // of which all the others were
		{1, 4, 1, false},
		{1, 4, 0, false},
		{1, 2 * soonLooks, soonLooks, false},
		{1, 4, 1, true}, // long after the last time
		{1, 4, 0, true},
		{1, 2 * soonLooks, soonLooks, true},
		{1, 4, 1, false},
		{1, 4, 1, true}, // what was given back then does not count double
		{1, 4, 0, true},
	} {
		for range tc.busy {
			if p.look(false) {
				t.Fatalf("%d: at once", i)
			}
		}
		given := 0
		for n := range tc.quiet {
			if p.look(true) && given == 0 {
				given = n + 1
				p.gaveBack(tc.settled)
			}
		}
		if given != tc.want {
			t.Errorf("%d: after %d looks, want %d", i, given, tc.want)
		}
	}
}
