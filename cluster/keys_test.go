package cluster_test

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
)

func keys(t *testing.T, secrets ...string) *cluster.Keys {
	t.Helper()
	var list [][]byte
	for _, s := range secrets {
		list = append(list, []byte(s+", which is long enough"))
	}
	k, err := cluster.NewKeys(list...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestNewKeys(t *testing.T) {
	for name, secrets := range map[string][][]byte{
		"none":   nil,
		"empty":  {nil},
		"short":  {[]byte("15 bytes, a few")},
		"second": {[]byte("this one is long enough"), []byte("short")},
	} {
		if _, err := cluster.NewKeys(secrets...); err == nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), "few") {
			t.Errorf("%s: the error quotes the secret: %v", name, err)
		}
	}
}

// Every field is signed, and no two records are signed alike.
func TestSignatures(t *testing.T) {
	k, other := keys(t, "one"), keys(t, "two")
	e := cluster.Entry{ID: "id", Gen: 1, Node: "ab", Boot: "c", Instance: "i", Attempt: 2}
	k.SignEntry(&e)
	if !k.CheckEntry(e) || other.CheckEntry(e) || !keys(t, "two", "one").CheckEntry(e) {
		t.Error("an entry is believed by the wrong nodes")
	}
	for name, change := range map[string]func(*cluster.Entry){
		"ID":       func(e *cluster.Entry) { e.ID = "di" },
		"Gen":      func(e *cluster.Entry) { e.Gen++ },
		"Node":     func(e *cluster.Entry) { e.Node = "x" },
		"Boot":     func(e *cluster.Entry) { e.Boot = "x" },
		"moved":    func(e *cluster.Entry) { e.Node, e.Boot = "a", "bc" },
		"Instance": func(e *cluster.Entry) { e.Instance = "" },
		"Attempt":  func(e *cluster.Entry) { e.Attempt = 3 },
		"Sig":      func(e *cluster.Entry) { e.Sig = "" },
		"Sig+":     func(e *cluster.Entry) { e.Sig += "A" },
	} {
		changed := e
		change(&changed)
		if k.CheckEntry(changed) {
			t.Errorf("an entry with another %s is believed", name)
		}
	}
	n := cluster.Node{Name: "a", Boot: "b", Addr: "c:1", Version: "v", State: cluster.Up, Tunnels: 3, Beat: time.UnixMilli(12345)}
	k.SignNode(&n)
	if !k.CheckNode(n) || other.CheckNode(n) {
		t.Error("a node is believed by the wrong nodes")
	}
	for name, change := range map[string]func(*cluster.Node){
		"Name":    func(n *cluster.Node) { n.Name = "x" },
		"Boot":    func(n *cluster.Node) { n.Boot = "x" },
		"Addr":    func(n *cluster.Node) { n.Addr = "x:1" },
		"Version": func(n *cluster.Node) { n.Version = "" },
		"State":   func(n *cluster.Node) { n.State = cluster.Draining },
		"Tunnels": func(n *cluster.Node) { n.Tunnels = 0 },
		"Beat":    func(n *cluster.Node) { n.Beat = n.Beat.Add(time.Millisecond) },
	} {
		changed := n
		change(&changed)
		if k.CheckNode(changed) {
			t.Errorf("a node with another %s is believed", name)
		}
	}
	if n.Beat = n.Beat.UTC(); !k.CheckNode(n) {
		t.Error("the same time in another zone breaks the signature")
	}
}

func TestTLS(t *testing.T) {
	one, two, both, rotated := keys(t, "one"), keys(t, "two"), keys(t, "one", "two"), keys(t, "two", "one")
	ordinary := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // a client that does not look
	for _, tt := range []struct {
		name         string
		dial, listen *tls.Config
		ok           bool
	}{
		{"same secret", one.TLS(), one.TLS(), true},
		{"another secret", one.TLS(), two.TLS(), false},
		{"before a rotation", one.TLS(), both.TLS(), true},
		{"during a rotation", both.TLS(), rotated.TLS(), true},
		{"during a rotation, back", rotated.TLS(), both.TLS(), true},
		{"after a rotation", two.TLS(), rotated.TLS(), true},
		{"the old secret dials", one.TLS(), two.TLS(), false},
		{"the old secret listens", two.TLS(), one.TLS(), false},
		{"the old secret dials one that has both in its turn", one.TLS(), rotated.TLS(), false},
		{"no certificate", ordinary, one.TLS(), false},
		{"TLS 1.2", func() *tls.Config {
			c := one.TLS()
			c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
			return c
		}(), one.TLS(), false},
		{"the certificate without the key", func() *tls.Config {
			c := one.TLS()
			c.Certificates[0].PrivateKey = two.TLS().Certificates[0].PrivateKey
			return c
		}(), one.TLS(), false},
		{"a chain that begins with a stranger", func() *tls.Config {
			c := two.TLS()
			c.Certificates[0].Certificate = append(c.Certificates[0].Certificate, one.TLS().Certificates[0].Certificate...)
			return c
		}(), one.TLS(), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dialled, listened := handshake(t, tt.dial, tt.listen)
			if ok := dialled == nil && listened == nil; ok != tt.ok {
				t.Errorf("dialling: %v; listening: %v", dialled, listened)
			}
			if !tt.ok && listened == nil {
				t.Error("the listening end has let the other in")
			}
		})
	}
}

// handshake connects two ends over loopback, and returns what a byte in each direction
// met.
func handshake(t *testing.T, dial, listen *tls.Config) (dialled, listened error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		done <- ping(tls.Server(c, listen))
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	dialled = ping(tls.Client(c, dial))
	_ = c.Close()
	return dialled, <-done
}

func ping(c *tls.Conn) error {
	if err := c.Handshake(); err != nil {
		_ = c.Close()
		return err
	}
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 1))
	return err
}
