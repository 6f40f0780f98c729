package h2spec

import (
	"io"
	"log"
	"testing"

	"go.uber.org/goleak"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
)

var table = harness.Table{Name: "h2spec"}

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // where x/net tells what the suite does to it
	goleak.VerifyTestMain(table.Around(m))
}
