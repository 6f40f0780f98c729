package gcpace

import "testing"

// TestPauses: memory is given back at the first quiet look, but late where it was needed
// again soon.
func TestPauses(t *testing.T) {
	var p pauses
	for i, tc := range []struct {
		busy, quiet int // looks
		want        int // the quiet one at which memory is given back; 0: at none
	}{
		{5, 30, 1},
		{1, 4, 1},
		{1, 4, 1},                     // needed again soon, twice in a row
		{1, 4, 0},                     // so it stays in short pauses
		{100, soonLooks - 1, 0},       // as before
		{1, soonLooks + 2, soonLooks}, // but not in a long one
		{1, soonLooks - 1, 0},         // of which only two looks were left
		{1, 2 * soonLooks, soonLooks},
		{1, 4, 1}, // of which all the others were
		{1, 4, 1},
		{1, 4, 0},
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
				p.gaveBack()
			}
		}
		if given != tc.want {
			t.Errorf("%d: after %d looks, want %d", i, given, tc.want)
		}
	}
}
