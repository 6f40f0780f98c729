package grpc

import (
	"fmt"
	"io"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc/grpclog"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
)

var table = harness.Table{Name: "gRPC"}

// passed tells the table what a test has found on a way, when it is over.
func (w way) passed(t *testing.T, exchange string) {
	table.Program(grpcModule, harness.ModuleVersion(t, grpcModule))
	if w.direct {
		table.Passed(t, grpcModule, exchange, "", "passed", "")
	} else {
		table.Passed(t, grpcModule, exchange, w.name, "", "passed")
	}
}

const grpcModule = "google.golang.org/grpc"

func TestMain(m *testing.M) {
	grpclog.SetLoggerV2(fatalLogger{grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard)})
	goleak.VerifyTestMain(table.Around(m))
}

// fatalLogger turns the fatal errors of the interop package, which would end
// the process, into panics that [mustPass] turns into failures of a test.
type fatalLogger struct{ grpclog.LoggerV2 }

type fatal string

func (fatalLogger) Fatal(args ...any)                 { panic(fatal(fmt.Sprint(args...))) }
func (fatalLogger) Fatalf(format string, args ...any) { panic(fatal(fmt.Sprintf(format, args...))) }
func (fatalLogger) Fatalln(args ...any)               { panic(fatal(fmt.Sprintln(args...))) }

// mustPass runs an interop case.
func mustPass(t *testing.T, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		switch p := recover().(type) {
		case nil:
		case fatal:
			t.Fatal(p)
		default:
			panic(p)
		}
	}()
	f()
}
