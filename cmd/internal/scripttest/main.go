package scripttest

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// Main is for TestMain: it makes the test binary the command called name, whose
// run function is run, and builds the packages others, commands which scripts
// use beside it. It does not return.
func Main(m *testing.M, name string, run func(args []string) int, others ...string) {
	testscript.Main(&building{m, others}, map[string]func(){
		name: func() { os.Exit(checkLeaks(run(os.Args))) },
	})
}

// checkLeaks returns another exit status if a command that has ended well has
// left goroutines behind.
func checkLeaks(status int) int {
	if status != 0 {
		return status
	}
	// Nothing can end the read of a standard input that stays open, or the wait
	// for a reader of a pipe.
	err := goleak.Find(
		goleak.IgnoreAnyFunction("github.com/websocktunnel/websocktunnel/tunnelclient.(*lineSource).read"),
		goleak.IgnoreAnyFunction("github.com/websocktunnel/websocktunnel/cmd/wst-client.(*announcer).print"),
		goleak.IgnoreAnyFunction("github.com/websocktunnel/websocktunnel/cmd/wst-client.(*announcer).writeFiles"),
		goleak.IgnoreAnyFunction("github.com/websocktunnel/websocktunnel/cmd/wst-client.stdinEnd.func1"),
		goleak.IgnoreAnyFunction("github.com/websocktunnel/websocktunnel/cmd/internal/logqueue.(*Queue).writeOut"),
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 99
	}
	return 0
}

// building builds commands before it runs the tests.
type building struct {
	m        *testing.M
	packages []string
}

func (b *building) Run() int {
	dir, err := os.MkdirTemp("", "scripttest")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	for _, pkg := range b.packages {
		args := []string{"build", "-tags=http2legacy", "-o", dir + string(filepath.Separator)}
		if raceEnabled {
			args = append(args, "-race")
		}
		if out, err := exec.Command("go", append(args, pkg)...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building %s: %v\n%s", pkg, err, out)
			return 1
		}
	}
	if err := os.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// A script waits for most of its time: more of them run side by side than there are
	// processors, unless go test is told how many.
	if err := flag.Set("test.parallel", strconv.Itoa(max(6, runtime.GOMAXPROCS(0)))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return b.m.Run()
}

// Run runs the scripts in testdata/script.
func Run(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the scripts send signals, which Windows does not have")
	}
	testscript.Run(t, testscript.Params{
		Dir:                filepath.Join("testdata", "script"),
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("TARGET", startTarget(env))
			env.Values[processes{}] = map[string]*process{}
			env.Values[stores{}] = map[string]*miniredis.Miniredis{}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"start":        cmdStart,
			"drain":        cmdDrain,
			"leave":        cmdLeave,
			"many":         cmdMany,
			"send":         cmdSend,
			"eof":          cmdEOF,
			"signal":       cmdSignal,
			"insist":       cmdInsist,
			"exited":       cmdExited,
			"exits":        cmdExits,
			"waitfor":      cmdWaitfor,
			"http":         cmdHTTP,
			"syslogd":      cmdSyslogd,
			"connectproxy": cmdConnectproxy,
			"tlsfront":     cmdTLSfront,
			"gencert":      cmdGencert,
			"setfile":      cmdSetfile,
			"redis":        cmdRedis,
		},
	})
}

// must fails the script unless ok, with what the command is used like.
func must(ts *testscript.TestScript, ok, neg bool, usage string) {
	if !ok || neg {
		ts.Fatalf("usage: %s", usage)
	}
}
