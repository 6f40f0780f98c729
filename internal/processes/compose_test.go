//go:build linux

package processes

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
)

const composeDir = "../../deploy/cluster/"

// composeFile is what deploy/cluster/compose.yml says, as far as the test does it.
type composeFile struct {
	Services map[string]struct {
		Build       string
		Command     []string
		Environment map[string]string
		Secrets     []string
		Ports       []string
		Grace       time.Duration `yaml:"stop_grace_period"`
		Networks    struct {
			Default struct {
				Address string `yaml:"ipv4_address"`
			}
		}
	}
	Secrets  map[string]struct{ File string }
	Networks struct {
		Default struct {
			Ipam struct{ Config []struct{ Subnet string } }
		}
	}
}

func readCompose(t *testing.T) (f composeFile) {
	t.Helper()
	text, err := os.ReadFile(composeDir + "compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestComposeFile: what the file says fits together.
func TestComposeFile(t *testing.T) {
	f := readCompose(t)
	names, nodes := make(map[string]bool), 0
	for name, s := range f.Services {
		if s.Networks.Default.Address == "" {
			t.Errorf("%s has no address: the network's first free one may be another one's", name)
		}
		if s.Build == "" {
			continue
		}
		nodes++
		names[s.Environment["CLUSTER_NODE"]] = true
		delay, err := time.ParseDuration(s.Environment["DRAIN_DELAY"])
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if least := delay + time.Minute + 10*time.Second; s.Grace < least { // DRAIN_TIMEOUT has its default
			t.Errorf("%s is killed after %v, and may drain for %v", name, s.Grace, least)
		}
	}
	if nodes != 3 || len(names) != nodes {
		t.Errorf("%d nodes have the names %q", nodes, slices.Collect(maps.Keys(names)))
	}
}

// newNetwork returns a host for each service, with its address, and with the names of all;
// and the host of whoever is outside, which is the gateway.
func newNetwork(t *testing.T, f composeFile) (services map[string]*host, outside *host) {
	t.Helper()
	prefix, ok := strings.CutSuffix(f.Networks.Default.Ipam.Config[0].Subnet, ".0/24")
	if !ok {
		t.Fatal("the subnet is not a /24")
	}
	outside = newNamespace(t)
	outside.run(t, "ip link set lo up")
	if err := outside.try("ip link add bridge type bridge"); err != nil {
		t.Skipf("*** SKIPPED: the kernel has to have bridges: %v", err)
	}
	outside.run(t, "ip address add "+prefix+".1/24 dev bridge")
	outside.run(t, "ip link set bridge up")
	var hosts strings.Builder
	hosts.WriteString("127.0.0.1 localhost\n")
	for name, s := range f.Services {
		hosts.WriteString(s.Networks.Default.Address + " " + name + "\n")
	}
	file := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(file, []byte(hosts.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	secrets := make(map[string]string)
	for name := range f.Secrets {
		secrets[name] = rand.Text()
	}
	secrets["tokens"] = string(tunneltest.Secret) // the clients have it
	services = make(map[string]*host)
	for name, s := range f.Services {
		h := newNamespace(t)
		services[name] = h
		outside.run(t, fmt.Sprintf("ip link add name %s type veth peer name eth0 netns %d", name, h.tid))
		outside.run(t, "ip link set dev "+name+" master bridge up")
		h.run(t, "ip address add "+s.Networks.Default.Address+"/24 dev eth0")
		h.run(t, "ip link set lo up")
		h.run(t, "ip link set eth0 up")
		its := maps.Clone(secrets)
		maps.DeleteFunc(its, func(name, _ string) bool { return !slices.Contains(s.Secrets, name) })
		h.files(t, file, its)
	}
	return services, outside
}

// newNamespace returns a host apart, or skips the test where that is not allowed.
func newNamespace(t *testing.T) *host {
	t.Helper()
	h, err := newHost(true)
	if err != nil || os.Geteuid() != 0 {
		t.Skipf("*** SKIPPED: network namespaces need root: %v", err)
	}
	t.Cleanup(h.close)
	return h
}

// files gives the host an /etc/hosts, and secrets.
func (h *host) files(t *testing.T, hosts string, secrets map[string]string) {
	t.Helper()
	var err error
	h.do(func() {
		err = func() error {
			if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
				return err
			}
			if err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""); err != nil {
				return err
			}
			if err := syscall.Mount(hosts, "/etc/hosts", "", syscall.MS_BIND, ""); err != nil {
				return err
			}
			if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
				return err
			}
			if err := os.Mkdir("/run/secrets", 0o755); err != nil {
				return err
			}
			for name, secret := range secrets {
				if err := os.WriteFile("/run/secrets/"+name, []byte(secret+"\n"), 0o444); err != nil {
					return err
				}
			}
			return nil
		}()
	})
	if errors.Is(err, os.ErrPermission) {
		t.Skipf("*** SKIPPED: mounts are not permitted here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// publish returns an address of this machine that leads to one at another host.
func publish(t *testing.T, from *host, to string) string {
	t.Helper()
	ln := here.listen(t, newAddr())
	b := &balancer{
		ln: ln, well: map[string]bool{to: true}, order: []string{to}, conns: make(map[net.Conn]struct{}),
		dial: func(addr string) (net.Conn, error) { return from.dial(context.Background(), "tcp", addr) },
	}
	b.wg.Go(b.accept)
	t.Cleanup(b.close)
	return ln.Addr().String()
}

// TestCompose runs what deploy/cluster/compose.yml describes, with exactly its settings,
// names and addresses, but without docker: each service in namespaces of its own. One node
// after the other is restarted, and no viewer notices.
func TestCompose(t *testing.T) {
	needProcesses(t)
	f := readCompose(t)
	hosts, outside := newNetwork(t, f)

	storeArgs := f.Services["valkey"].Command
	storePath := lookPath(t, storeArgs[0], "redis-server")
	// The image switches the protected mode off.
	store := start(t, hosts["valkey"], 0, nil, storePath, append(slices.Clone(storeArgs[1:]), "--protected-mode", "no", "--dir", t.TempDir())...)
	store.says(0, "Ready to accept connections", patience)

	names := slices.DeleteFunc(slices.Sorted(maps.Keys(f.Services)), func(name string) bool { return f.Services[name].Build == "" })
	nodes := make(map[string]*process)
	run := func(name string) {
		t.Helper()
		var env []string
		for k, v := range f.Services[name].Environment {
			env = append(env, k+"="+v)
		}
		nodes[name] = start(t, hosts[name], 0, env, "websocktunnel", f.Services[name].Command...)
	}
	ready := func(name string) {
		t.Helper()
		nodes[name].says(0, ` serving `, patience)
		for _, other := range names {
			if other != name {
				nodes[name].says(0, `node of the cluster .*other=`+other+` state=up`, patience)
			}
		}
	}
	for _, name := range names {
		run(name)
	}
	for _, name := range names {
		ready(name)
	}
	cfg, err := filepath.Abs(composeDir + "haproxy.cfg")
	if err != nil {
		t.Fatal(err)
	}
	haproxy := start(t, hosts["balancer"], 0, nil, lookPath(t, "haproxy"), "-db", "-f", cfg)
	entry := publish(t, outside, f.Services["balancer"].Networks.Default.Address+":8080")

	tg := newTarget(t, here, "127.0.0.1")
	clients := startClients(t, here, "http://"+entry, 6, tg.addr)
	viewer := newViewer(t, here)
	var urls []string
	for _, c := range clients {
		if want := f.Services["a"].Environment["URL_PREFIX"] + "/" + c.id; c.url != want {
			t.Errorf("a client's URL is %s, want %s", c.url, want)
		}
		urls = append(urls, "http://"+entry+"/"+c.id)
		served(t, viewer, urls[len(urls)-1])
	}

	// The target hears of the viewer what the balancer knows, and not what he says.
	forwarded := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Header.Get("X-Forwarded-For")+" "+r.Header.Get("X-Forwarded-Proto"))
	}))
	defer forwarded.Close()
	who := startClient(t, here, "http://"+entry, "who", forwarded.Listener.Addr())
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+entry+"/"+who.id+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Forwarded-For", "192.0.2.1")
	req.Header.Set("X-Forwarded-Proto", "https")
	gateway := strings.TrimSuffix(f.Networks.Default.Ipam.Config[0].Subnet, "0/24") + "1"
	want := gateway + ", " + f.Services["balancer"].Networks.Default.Address + " http"
	if status, body, err := do(viewer, req); status != 200 || !strings.HasSuffix(body, want) || err != nil {
		t.Errorf("the target is told %q (%d, %v)", body, status, err)
	}
	if n := nodes["a"].count(0, "id=who .*remote="+gateway) + nodes["b"].count(0, "id=who .*remote="+gateway) + nodes["c"].count(0, "id=who .*remote="+gateway); n != 1 {
		t.Error("the node does not take the address of a tunnel client from the balancer")
	}

	adminSees(t, f, outside, len(names))

	l := newLoad(t, urls)
	l.requests(50)
	for range 10 {
		l.always(l.websocket)
	}
	for range 2 {
		l.always(l.upload)
	}
	<-time.After(500 * time.Millisecond) // every kind of load has begun
	var longest time.Duration
	for _, name := range names {
		mark, begun := haproxy.mark(), time.Now()
		nodes[name].signal(syscall.SIGTERM)
		nodes[name].exits(0, f.Services[name].Grace)
		longest = max(longest, time.Since(begun))
		haproxy.says(mark, `Server nodes/`+name+` is DOWN`, patience)
		mark = haproxy.mark()
		run(name)
		ready(name)
		haproxy.says(mark, `Server nodes/`+name+` is UP`, patience)
	}
	l.stop()
	summary(t, "%d restarts of a node, longest drain %v; %s", len(names), ms(longest), l.report(t))
	none(t, "requests that came twice", tg.twice())
	if n := l.cut.Load(); n != 0 {
		t.Errorf("%d websockets were cut although they would have ended within the drain timeout", n)
	}
}

// lookPath returns the path of the first program that is there. CI has to have one.
func lookPath(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		for _, name := range []string{name, "/usr/sbin/" + name} {
			if path, err := exec.LookPath(name); err == nil {
				return path
			}
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("there is no %s", names)
	}
	t.Skipf("*** SKIPPED: there is no %s", names)
	return ""
}

// adminSees checks that the admin listener of each node is where the file publishes it, and
// shows all nodes.
func adminSees(t *testing.T, f composeFile, outside *host, n int) {
	t.Helper()
	for name, s := range f.Services {
		if s.Build == "" {
			continue
		}
		published, port, _ := strings.Cut(strings.TrimPrefix(s.Ports[0], "127.0.0.1:"), ":")
		viewer := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return outside.dial(ctx, "tcp", net.JoinHostPort(s.Networks.Default.Address, port))
		}}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost:"+published+"/api/v1/nodes", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+s.Environment["ADMIN_TOKEN"])
		status, body, err := do(viewer, req)
		var list struct {
			Nodes []struct{ Name, State, Fault string }
		}
		if status != 200 || err != nil || json.Unmarshal([]byte(body), &list) != nil || len(list.Nodes) != n {
			t.Errorf("the admin listener of %s: %d %v %s", name, status, err, body)
		}
		for _, other := range list.Nodes {
			if other.State != "up" || other.Fault != "" {
				t.Errorf("%s says of %s: %s %s", name, other.Name, other.State, other.Fault)
			}
		}
	}
}
