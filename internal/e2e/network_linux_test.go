package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// networkRole is the environment variable that tells a copy of this test
// binary, in a network namespace of its own, what it is there for.
const networkRole = "WST_TEST_NETWORK_ROLE"

// TestNetworkChange: the tunnel client's machine changes its address, and the
// tunnel works again long before unanswered pings would tell. Service and
// tunnel client are in network namespaces with a cable between them.
func TestNetworkChange(t *testing.T) {
	switch os.Getenv(networkRole) {
	case "client":
		networkClient(t)
		return
	case "service":
		for _, tt := range []struct {
			name   string
			change []string // arguments of ip, at the client's end
			keeps  bool     // the old address still works
		}{
			{"address replaced", []string{"addr del 10.99.0.2/24 dev far", "addr add 10.99.0.3/24 dev far"}, false},
			{"another address preferred", []string{"addr add 10.99.0.3/24 dev far", "route replace 10.99.0.0/24 dev far src 10.99.0.3"}, true},
		} {
			t.Run(tt.name, func(t *testing.T) { networkService(t, tt.change, tt.keeps) })
		}
		return
	}
	t.Parallel()
	for _, args := range [][]string{{"unshare", "-n", "ip", "link", "set", "lo", "up"}, {"nsenter", "--version"}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Skipf("SKIPPED: network namespaces cannot be made here, as root with iproute2 and util-linux: %q: %v %s", args, err, out)
		}
	}
	cmd := inNamespace("service")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

// inNamespace returns this test again, in a network namespace of its own.
func inNamespace(role string) *exec.Cmd {
	cmd := exec.Command("unshare", "-n", os.Args[0], "-test.run=^TestNetworkChange$", "-test.v", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), networkRole+"="+role)
	return cmd
}

// networkService is the side of the service, the viewers and the cable.
func networkService(t *testing.T, change []string, keeps bool) {
	ip := func(args string, prefix ...string) {
		t.Helper()
		argv := append(append(prefix, "ip"), strings.Fields(args)...)
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v %s", argv, err, out)
		}
	}
	far := inNamespace("client")
	stdin, err := far.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := far.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	far.Stderr = os.Stderr
	if err := far.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	t.Cleanup(func() {
		stdin.Close()
		for lines.Scan() {
			t.Log(lines.Text())
		}
		if err := far.Wait(); err != nil {
			t.Errorf("the tunnel client: %v", err)
		}
	})
	for lines.Scan() && lines.Text() != "in the namespace" {
		t.Log(lines.Text())
	}
	pid := strconv.Itoa(far.Process.Pid)
	inside := []string{"nsenter", "-t", pid, "-n"}
	ip("link set lo up")
	ip("link add near type veth peer name far netns " + pid)
	t.Cleanup(func() { ip("link del near") })
	ip("addr add 10.99.0.1/24 dev near")
	ip("link set near up")
	ip("addr add 10.99.0.2/24 dev far", inside...)
	ip("link set far up", inside...)

	ln, err := net.Listen("tcp", "10.99.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := tunneltest.NewService(t, server.Config{}, ln)
	fmt.Fprintln(stdin, s.URL, tunneltest.Token(t, "a"))
	s.WaitTunnel("a")
	v := tunneltest.NewViewer(t)
	get := func(path string, limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/a"+path, nil)
		if err != nil {
			return err
		}
		resp, err := v.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && string(body) != "ok" {
			err = fmt.Errorf("%d %q", resp.StatusCode, body)
		}
		return err
	}
	if err := get("/", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	inFlight := make(chan error, 1)
	go func() { inFlight <- get("/slow", time.Minute) }()

	begin := time.Now()
	for _, args := range change {
		ip(args, inside...)
	}
	moved := func() bool {
		for info := range s.Tunnels() {
			host, _, _ := net.SplitHostPort(info.RemoteAddr)
			return host == "10.99.0.3"
		}
		return false
	}
	failed := 0
	for !moved() && time.Since(begin) < time.Minute {
		if err := get("/", time.Second); err != nil {
			failed++
		}
	}
	if err := get("/", 10*time.Second); err != nil {
		t.Error(err)
	}
	d := time.Since(begin)
	t.Logf("works again after %v", d)
	if d > 10*time.Second {
		t.Errorf("it took %v", d)
	}
	if !keeps {
		s.Server.Close() // ends the request in flight, which nobody can answer
		<-inFlight
		return
	}
	if failed > 0 {
		t.Errorf("%d requests failed", failed)
	}
	if err := <-inFlight; err != nil {
		t.Errorf("the request in flight: %v", err)
	}
}

// networkClient is the side of the tunnel client. It ends with its input.
func networkClient(t *testing.T) {
	fmt.Fprintln(os.Stdout, "in the namespace")
	in := bufio.NewReader(os.Stdin)
	var url, tok string
	if _, err := fmt.Fscanln(in, &url, &tok); err != nil {
		t.Fatal(err)
	}
	c, err := tunnelclient.New(tunnelclient.Config{ServerURL: url, ID: "a", Tokens: tunnelclient.StaticToken(tok)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, in)
	}()
	if err := c.Serve(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			select {
			case <-time.After(12 * time.Second):
			case <-r.Context().Done():
			}
		}
		io.WriteString(w, "ok")
	})); err != nil {
		t.Error(err)
	}
}
