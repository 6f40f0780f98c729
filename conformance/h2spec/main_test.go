package h2spec

import (
	"io"
	"log"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // where x/net tells what the suite does to it
	goleak.VerifyTestMain(m)
}
