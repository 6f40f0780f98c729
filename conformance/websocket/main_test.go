package websocket

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
)

// patience bounds every wait: long enough for a busy machine, so that it ends
// only what would never have come.
const patience = 30 * time.Second

var table = harness.Table{Name: "websockets and other upgrades"}

func TestMain(m *testing.M) { goleak.VerifyTestMain(table.Around(m)) }
