//go:build linux

package processes

import (
	"cmp"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
)

// service is a running websocktunnel.
type service struct {
	*process
	addr string
	up   time.Time // when it could be connected to
}

// newAddr returns an address of this machine that nobody else uses, now or
// later: a restart is to find it free.
func newAddr() string {
	ip := net.IPv4(127, byte(1+rand.N(254)), byte(rand.N(256)), byte(1+rand.N(254)))
	return net.JoinHostPort(ip.String(), "8080")
}

// serviceOptions is how a service is started. The zero value has it on this
// machine.
type serviceOptions struct {
	host  *host  // nil: here
	url   string // of viewers; "": that of the address
	limit int    // file descriptors
	env   []string
	bin   string // absolute path of another build; "": the one of this run
}

func startService(t testing.TB, addr string, opts serviceOptions) *service {
	t.Helper()
	ip, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	if opts.host == nil {
		opts.host = here
	}
	if opts.url == "" {
		opts.url = "http://" + addr
	}
	env := append([]string{
		"URL_PREFIX=" + opts.url, "LISTEN_ADDR=" + ip, "PORT=" + port, "TASKCLUSTER_PROXY_SECRET_A=" + string(tunneltest.Secret),
	}, opts.env...)
	s := &service{process: start(t, opts.host, opts.limit, env, cmp.Or(opts.bin, "websocktunnel")), addr: addr}
	s.up = s.says(0, ` serving `, patience).At
	return s
}

// tunnelClient is a running wst-client.
type tunnelClient struct {
	*process
	id  string
	url string
}

// connected is the line of wst-client for each session.
const connected = ` connected id=\S+ url=(\S+)`

// launchClient starts a tunnel client of the service at serverURL, which
// serves the target under an id.
func launchClient(t testing.TB, h *host, serverURL, id string, target net.Addr) *tunnelClient {
	t.Helper()
	tok := tunneltest.Token(t, id)
	p := start(t, h, 0, []string{"WST_TOKEN=" + tok}, "wst-client", serverURL, id, "http://"+target.String())
	return &tunnelClient{process: p, id: id}
}

// startClient is launchClient, and waits until viewers can come.
func startClient(t testing.TB, h *host, serverURL, id string, target net.Addr) *tunnelClient {
	t.Helper()
	c := launchClient(t, h, serverURL, id, target)
	c.connect()
	return c
}

// connect waits until the tunnel is up for the first time.
func (c *tunnelClient) connect() {
	c.t.Helper()
	c.url = c.says(0, connected, patience).Groups[1]
}

// sessions returns how many there have been.
func (c *tunnelClient) sessions() int { return c.count(0, connected) }

// startClients starts n of them at once.
func startClients(t testing.TB, h *host, serverURL string, n int, target net.Addr) []*tunnelClient {
	t.Helper()
	clients := make([]*tunnelClient, n)
	for i := range clients {
		clients[i] = launchClient(t, h, serverURL, "tunnel-"+strconv.Itoa(i), target)
	}
	for _, c := range clients {
		c.connect()
	}
	return clients
}
