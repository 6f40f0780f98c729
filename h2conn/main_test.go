package h2conn_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

// TestMain has sockets read and written as the commands do.
func TestMain(m *testing.M) {
	netconn.AllowRaw(true)
	goleak.VerifyTestMain(m)
}
