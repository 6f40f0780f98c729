package cluster_test

import (
	"crypto/ed25519"
	"crypto/tls"
	"encoding/hex"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
)

// TestVersionsOfSignatures: signatures and keys as the first version made them. Nodes of other
// versions check and make the same, so these must never change: what a later version adds
// to a record is signed by itself.
func TestVersionsOfSignatures(t *testing.T) {
	k, err := cluster.NewKeys([]byte("the secret of the recorded signatures"))
	if err != nil {
		t.Fatal(err)
	}
	e := cluster.Entry{ID: "build-42", Gen: 1_800_000_000_000_000, Node: "node-a", Boot: "b00t", Instance: "inst", Attempt: 7}
	n := cluster.Node{
		Name: "node-a", Boot: "b00t", Addr: "192.0.2.1:8444", Version: "v1.2.3", State: cluster.Draining,
		Tunnels: 12, Beat: time.UnixMilli(1_800_000_000_123),
	}
	var key ed25519.PublicKey
	for name, f := range map[string]struct {
		got  func() string
		want string
	}{
		"entry": {func() string { k.SignEntry(&e); return e.Sig }, "lPAkeoDBWU4fKvazLmn66g"},
		"node":  {func() string { k.SignNode(&n); return n.Sig }, "3R1utCinswvzCqvT2-e3DQ"},
		"key": {func() string {
			key = k.TLS().Certificates[0].PrivateKey.(ed25519.PrivateKey).Public().(ed25519.PublicKey)
			return hex.EncodeToString(key)
		}, "0e9c85806a5a9c165c56e41346c018e8c41281e1cafbe3a326afaa8d33f7d494"},
	} {
		if got := f.got(); got != f.want {
			t.Errorf("%s: got %s, want %s", name, got, f.want)
		}
	}
	if c := k.TLS(); c.MinVersion != tls.VersionTLS13 {
		t.Errorf("nodes speak TLS %x", c.MinVersion)
	}
	if cluster.Up != "up" || cluster.Draining != "draining" || cluster.Restoring != "restoring" {
		t.Error("the words for the states of nodes, which are stored and signed, have changed")
	}
}
