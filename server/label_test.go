package server

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// Viewers have URLs with these: they never change.
func TestLabelOf(t *testing.T) {
	long := strings.Repeat("a", 63)
	for id, want := range map[string]label{
		"a": "a", "0": "0", "build-42": "build-42", "1234": "1234", "a-b-c": "a-b-c", "a--b": "a--b", "xn-a": "xn-a", "x-a": "x-a", long: label(long),

		"team%2Fbuild":  "x--wjvxyc75msnzpy753j3wllfmpqxc7zus2wecds6wwfnujbrj6qya",
		"A":             "x--kwnovuecmtkxsxjzbfyyzxifvpkjk4xij7svleho6mniriep376q",
		"x--a":          "x--iud6dzfp424ifihg6lciy7iup4zc75niogtjze5e6qe2omiaolma",
		"xn--bcher-kva": "x--6emnlqwdfqvkw4rsnht4lp2y4gbbps4bwslewydng5oyfypedn2a",
		"-a":            "x--yj2isf4qgrofntxtwu6ae264jakqssh2mdcwgbqhhvx6u53gvvva",
		long + "a":      "x--77qfj7t24dfw3rs4hl43mhksbh2dtbi5wq6qxjmzom356fkgndvq",
	} {
		if got := labelOf(id); got != want {
			t.Errorf("%.80s: %s, want %s", id, got, want)
		}
	}
	for _, id := range []string{"a-", "-", "a.b", "a_b", "~", "%41", "Build", "ab--c", "----", "x--", "x---a", string(labelOf("A")), long + "a"} {
		if got := labelOf(id); !strings.HasPrefix(string(got), encodedPrefix) || len(got) != 55 {
			t.Errorf("%s: %s is not encoded", id, got)
		}
	}
}

var (
	dnsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	reserved = regexp.MustCompile(`^..--`) // RFC 5891, section 4.2.3.1
	encoded  = regexp.MustCompile(`^x--[a-z2-7]{52}$`)
)

// checkLabel checks what holds for the label of every id.
func checkLabel(t *testing.T, id string) label {
	t.Helper()
	l := labelOf(id)
	switch s := string(l); {
	case !dnsLabel.MatchString(s), reserved.MatchString(s):
		t.Errorf("%q has the label %q, which browsers do not take", id, s)
	case s != id && !encoded.MatchString(s):
		t.Errorf("%q has the label %q", id, s)
	case s == id && strings.HasPrefix(id, encodedPrefix):
		t.Errorf("%q is plain and looks encoded", id)
	case s != id && dnsLabel.MatchString(id) && !reserved.MatchString(id) && !strings.HasPrefix(id, encodedPrefix):
		t.Errorf("%q is a fine label, and encoded", id)
	}
	if labelOf(id) != l {
		t.Errorf("%q has two labels", id)
	}
	return l
}

// TestLabelsDiffer: ids that are nearly the same, or the labels of others, get
// labels of their own, without regard to case.
func TestLabelsDiffer(t *testing.T) {
	const characters = "abzABZ019-_.~%"
	random := rand.New(rand.NewPCG(1, 2))
	ids := make(map[string]bool)
	for range 500 {
		b := make([]byte, 1+random.IntN(8))
		for i := range b {
			b[i] = characters[random.IntN(len(characters))]
		}
		id := string(b)
		for _, x := range []string{id, strings.ToUpper(id), strings.ToLower(id), "x--" + id, "xn--" + id, id + strings.Repeat("a", 63-len(id)), id + strings.Repeat("a", 64-len(id))} {
			ids[x] = true
			ids[string(labelOf(x))] = true
			ids[strings.ToUpper(string(labelOf(x)))] = true
		}
	}
	seen := make(map[string]string)
	for id := range ids {
		l := strings.ToLower(string(checkLabel(t, id)))
		if other, ok := seen[l]; ok {
			t.Fatalf("%q and %q have the label %q", id, other, l)
		}
		seen[l] = id
	}
	t.Logf("%d ids", len(seen))
}

// FuzzLabel: two ids have two labels, whatever the case; every label is one that
// DNS, certificates and browsers take, and leads back to its tunnel from a Host.
func FuzzLabel(f *testing.F) {
	for _, s := range []string{"a", "A", "build-42", "team%2Fbuild", "x--a", "xn--bcher-kva", "-", "a.b", "a_b", "~", strings.Repeat("a", 63), strings.Repeat("a", 64), string(labelOf("A"))} {
		f.Add(s, strings.ToUpper(s))
		f.Add(s, string(labelOf(s)))
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if wire.CheckID(a) != nil || wire.CheckID(b) != nil {
			return
		}
		la, lb := checkLabel(t, a), checkLabel(t, b)
		if (a == b) != strings.EqualFold(string(la), string(lb)) {
			t.Errorf("%q has the label %q, and %q has %q", a, la, b, lb)
		}
		for _, format := range []string{"%s.t.example", "%s.t.example:80", "%s.T.Example."} {
			host := fmt.Sprintf(format, la)
			if name, ok := nameUnder(strings.ToUpper(host), "t.example"); !ok || label(name) != la || !isLabel(name) {
				t.Errorf("%s is %q, %t", host, name, ok)
			}
		}
	})
}

func BenchmarkLabelOf(b *testing.B) {
	for name, id := range map[string]string{"plain": "build-42", "encoded": "team%2Fbuild"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				labelOf(id)
			}
		})
	}
}
