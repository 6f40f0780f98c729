package grpc

import (
	"fmt"
	"io"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc/grpclog"
)

func TestMain(m *testing.M) {
	grpclog.SetLoggerV2(fatalLogger{grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard)})
	goleak.VerifyTestMain(m)
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
