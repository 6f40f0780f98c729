package target

import (
	"net"
	"testing"
)

// Refusing returns an address at which connections are refused until the test
// ends. The port belongs to a connection: a port that is only closed could become
// a listener of another test.
func Refusing(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
}
