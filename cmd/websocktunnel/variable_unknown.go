package main

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
)

// misspelled returns a sentence for each variable in environ, which is as
// os.Environ has it, that the service does not know but that looks like one of
// its own. Without that, its user would not learn that it has no effect.
//
// Names are compared without case and underscores. Short ones, such as PORT, are
// left out, because other programs have too many that look like them.
func misspelled(environ []string) []string {
	known := variableNames()
	var found []string
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if runtime.GOOS == "windows" {
			name = strings.ToUpper(name) // it does not tell them apart
		}
		if value == "" || slices.Contains(known, name) {
			continue
		}
		if meant := resembled(name, known); meant != "" {
			found = append(found, fmt.Sprintf("%s is not a variable of the service and has no effect: did you mean %s?", name, meant))
		}
	}
	slices.Sort(found)
	return found
}

// variableNames returns the names of all variables and their twins.
func variableNames() []string {
	var names []string
	for _, v := range variables {
		names = append(names, v.name)
		if v.secret {
			names = append(names, v.name+fileSuffix)
		}
	}
	return names
}

// nearestVariable returns the variable that a key of a configuration file is
// probably meant to be, or "". All keys there are meant for the service, so that
// short names count too.
func nearestVariable(key string) string {
	known := variableNames()
	for _, name := range known {
		if plain(key) == plain(name) {
			return name
		}
	}
	if meant := resembled(key, known); meant != "" {
		return meant
	}
	for _, name := range known {
		if len(key) > 2 && editDistance(plain(key), plain(name)) <= 1 {
			return name
		}
	}
	return ""
}

// resembled returns the one of known that name looks like most, or "".
func resembled(name string, known []string) string {
	const shortest = 6
	given := plain(strings.TrimPrefix(strings.TrimPrefix(name, "WEBSOCKTUNNEL_"), "WST_"))
	best, least := "", 0
	for _, candidate := range known {
		k := plain(candidate)
		if len(k) < shortest || len(given) < shortest {
			continue
		}
		d := editDistance(given, k)
		switch {
		case d <= 1, d == 2 && len(k) >= 12 && strings.HasPrefix(given, k[:4]):
		case d <= 4 && len(k) >= 10 && strings.HasPrefix(given, k[:min(len(k)-2, 10)]): // LISTEN_ADDRESS
		case len(given) > shortest && strings.HasPrefix(k, given): // TLS_CERT
		default:
			continue
		}
		if best == "" || d < least {
			best, least = candidate, d
		}
	}
	return best
}

// plain returns a name without the characters that are easily mistaken.
func plain(name string) string {
	return strings.ToUpper(strings.NewReplacer("_", "", "-", "", ".", "").Replace(name))
}

// editDistance returns how many bytes must be inserted, removed, replaced or
// swapped with their neighbour to make b of a.
func editDistance(a, b string) int {
	var last []int // the row before the previous one
	previous := make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(previous[j+1]+1, row[j]+1, previous[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], last[j-1]+1)
			}
		}
		last, previous = previous, row
	}
	return previous[len(b)]
}
