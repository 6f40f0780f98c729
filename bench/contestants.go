package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strconv"
	"time"
)

// contestant is one way to carry requests to the target.
type contestant struct {
	name  string
	label string

	// start starts the processes in e.group. Nil for those that only some
	// workloads know how to start.
	start func(ctx context.Context, e *environment) (*contender, error)

	upgrades bool // it carries websockets
	secure   bool // it can do TLS
	programs []string
}

// Names of contestants that the code refers to.
const (
	nameTarget = "target"
	nameProxy  = "proxy"
	nameHTTP1  = "http1"
	nameH2C    = "h2c"
	nameYamux  = "yamux"
	nameOurs   = "wst"
	nameOursB  = "wst-b"
)

var contestants = []contestant{
	{name: nameTarget, label: "target alone", start: startTargetAlone, upgrades: true, secure: true},
	{name: nameProxy, label: "one ReverseProxy", start: startOneProxy, upgrades: true, secure: true},
	{name: nameHTTP1, label: "two ReverseProxies, HTTP/1.1", start: startTwoProxies(false), upgrades: true, secure: true},
	{name: nameH2C, label: "two ReverseProxies, HTTP/2", start: startTwoProxies(true), secure: true},
	{name: nameYamux, label: "yamux over websocket", start: startYamux, upgrades: true, secure: true},
	{name: nameOurs, label: "websocktunnel", start: startOurs(nameOurs), upgrades: true, secure: true},
	{name: nameOursB, label: "websocktunnel, build B", start: startOurs(nameOursB), upgrades: true, secure: true},
	{name: "frp", label: "frp (websocket)", start: startFRP, upgrades: true, programs: []string{"frps", "frpc"}},
	{name: "piko", label: "piko", start: startPiko, upgrades: true, programs: []string{"piko"}},
	{name: "chisel", label: "chisel (raw TCP)", start: startChisel, upgrades: true, programs: []string{"chisel"}},
	{name: "haproxy", label: "HAProxy reverse HTTP", start: startHAProxy, programs: []string{"haproxy"}},
}

func contestantNames() []string {
	var names []string
	for _, c := range contestants {
		names = append(names, c.name)
	}
	return names
}

func contestantNamed(name string) contestant {
	for _, c := range contestants {
		if c.name == name {
			return c
		}
	}
	return contestant{name: name, label: name}
}

// contender is a contestant that runs.
type contender struct {
	endpoints []endpoint
	service   []*process // the public end
	client    []*process // the end beside the target
}

// cpu returns the processes whose CPU time a load measures.
func (c *contender) cpu() map[string][]int {
	m := map[string][]int{}
	for name, procs := range map[string][]*process{"service": c.service, "client": c.client} {
		for _, p := range procs {
			m[name] = append(m[name], p.pid())
		}
	}
	return m
}

// widenTime is how long a tunnel client has for its further websockets, of which it says
// nothing.
const widenTime = 2 * time.Second

// environment holds the settings that all contestants of one workload share.
type environment struct {
	*group
	bins    map[string]string // directory with our commands, by contestant
	secure  bool              // TLS on the viewers' side, and through the tunnel
	cert    certFiles
	link    *relaySettings // between the two ends; nil: loopback as it is
	tunnels int            // tunnels that the viewers are spread over, where a contestant has several
	target  string         // address of the target

	connections int // websockets of each tunnel; zero: one

	// far is for the processes beside the target; nil: they run where all do.
	far *group
}

// behind returns the environment of the processes beside the target.
func (e *environment) behind() *environment {
	if e.far == nil {
		return e
	}
	b := *e
	b.group = e.far
	return &b
}

// between returns an environment whose processes run at the ends of a link.
func (e *environment) between(ends lossyLinkEnds) *environment {
	b := *e
	b.group, b.far = e.within(ends.Near), e.within(ends.Far)
	return &b
}

// serverTLS is the certificate for public ends.
func (e *environment) serverTLS() certFiles {
	if e.secure {
		return e.cert
	}
	return certFiles{}
}

func (e *environment) scheme() string {
	if e.secure {
		return "https"
	}
	return "http"
}

// linked returns the address at which addr is reached over the link.
func (e *environment) linked(ctx context.Context, addr string) (string, error) {
	if e.link == nil {
		return addr, nil
	}
	s := *e.link
	s.To = addr
	var l listening
	_, err := e.role(ctx, "relay", s, &l)
	return l.Addr, err
}

// viewers returns the single endpoint of a contestant.
func (e *environment) viewers(addr string) []endpoint {
	return []endpoint{{Addr: addr, TLS: e.secure}}
}

func startTargetAlone(ctx context.Context, e *environment) (*contender, error) {
	addr := e.target
	if e.secure {
		var l listening
		if _, err := e.role(ctx, "target", targetSettings{TLS: e.cert}, &l); err != nil {
			return nil, err
		}
		addr = l.Addr
	}
	addr, err := e.linked(ctx, addr)
	return &contender{endpoints: e.viewers(addr)}, err
}

func startOneProxy(ctx context.Context, e *environment) (*contender, error) {
	addr, err := e.linked(ctx, e.target)
	if err != nil {
		return nil, err
	}
	var l listening
	p, err := e.role(ctx, "proxy", proxySettings{TLS: e.serverTLS(), Upstream: "http://" + addr}, &l)
	return &contender{endpoints: e.viewers(l.Addr), service: []*process{p}}, err
}

// startTwoProxies starts two proxies: one next to the target, one for the
// viewers. Between them is HTTP/2 or HTTP/1.1.
func startTwoProxies(http2 bool) func(context.Context, *environment) (*contender, error) {
	return func(ctx context.Context, e *environment) (*contender, error) {
		var l listening
		near, err := e.behind().role(ctx, "proxy", proxySettings{TLS: e.serverTLS(), Upstream: "http://" + e.target}, &l)
		if err != nil {
			return nil, err
		}
		addr, err := e.linked(ctx, l.Addr)
		if err != nil {
			return nil, err
		}
		front, err := e.role(ctx, "proxy", proxySettings{TLS: e.serverTLS(), Upstream: e.scheme() + "://" + addr, HTTP2: http2}, &l)
		return &contender{endpoints: e.viewers(l.Addr), service: []*process{front}, client: []*process{near}}, err
	}
}

func startYamux(ctx context.Context, e *environment) (*contender, error) {
	var l listening
	service, err := e.role(ctx, "yamux-service", yamuxServiceSettings{TLS: e.serverTLS()}, &l)
	if err != nil {
		return nil, err
	}
	addr, err := e.linked(ctx, l.Addr)
	if err != nil {
		return nil, err
	}
	var ready struct{}
	client, err := e.behind().role(ctx, "yamux-client", yamuxClientSettings{Service: e.scheme() + "://" + addr, Target: "http://" + e.target}, &ready)
	return &contender{endpoints: e.viewers(l.Addr), service: []*process{service}, client: []*process{client}}, err
}

// ourService is a running websocktunnel serve.
type ourService struct {
	*process
	addr   string
	secret string
}

// newSecret returns a secret for tokens.
func newSecret() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // it never fails
	return hex.EncodeToString(b)
}

// startService starts the service of one of our builds on a port.
func (e *environment) startService(ctx context.Context, name, secret string, port int) (*ourService, error) {
	addr := fmt.Sprintf("%s:%d", e.place.host(), port)
	env := []string{
		"TASKCLUSTER_PROXY_SECRET_A=" + secret,
		"LISTEN_ADDR=" + e.place.host(),
		fmt.Sprintf("PORT=%d", port),
		"URL_PREFIX=" + e.scheme() + "://" + addr,
		"ENV=production",
	}
	if e.secure {
		env = append(env, "TLS_CERTIFICATE_FILE="+e.cert.Cert, "TLS_KEY_FILE="+e.cert.Key)
	}
	p, err := e.start(ctx, name+"-service", env, false, filepath.Join(e.bins[name], "websocktunnel"), "serve")
	if err != nil {
		return nil, err
	}
	return &ourService{p, addr, secret}, p.answers(ctx, e.scheme()+"://"+addr+"/__heartbeat__", "")
}

// startClient starts a tunnel client of one of our builds.
func (e *environment) startClient(ctx context.Context, name string, s *ourService, id string) (*process, error) {
	addr, err := e.linked(ctx, s.addr)
	if err != nil {
		return nil, err
	}
	token, err := mint(s.secret, id)
	if err != nil {
		return nil, err
	}
	args := []string{e.scheme() + "://" + addr, id, e.target}
	if e.secure {
		args = append(args, "--ca-file", e.cert.Cert)
	}
	if e.connections > 1 {
		args = append(args, "--connections", strconv.Itoa(e.connections))
	}
	p, err := e.behind().start(ctx, name+"-client", []string{"WST_TOKEN=" + token}, true, filepath.Join(e.bins[name], "wst-client"), args...)
	if err != nil {
		return nil, err
	}
	// It prints its URL once it is connected.
	_, err = p.line(ctx, startTimeout)
	if err == nil && e.connections > 1 {
		select {
		case <-time.After(widenTime):
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	return p, err
}

func startOurs(name string) func(context.Context, *environment) (*contender, error) {
	return func(ctx context.Context, e *environment) (*contender, error) {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		service, err := e.startService(ctx, name, newSecret(), port)
		if err != nil {
			return nil, err
		}
		return e.withClients(ctx, name, service)
	}
}

// withClients starts tunnel clients for a service that runs.
func (e *environment) withClients(ctx context.Context, name string, service *ourService) (*contender, error) {
	c := &contender{service: []*process{service.process}}
	for i := range max(1, e.tunnels) {
		id := fmt.Sprintf("bench-%d", i)
		p, err := e.startClient(ctx, name, service, id)
		if err != nil {
			return nil, err
		}
		c.client = append(c.client, p)
		c.endpoints = append(c.endpoints, endpoint{Addr: service.addr, Path: "/" + id, TLS: e.secure})
	}
	return c, nil
}

// crowd is a process with many tunnel clients.
type crowd struct {
	*process
	connected int
}

// startCrowd connects n tunnels to a service.
func (e *environment) startCrowd(ctx context.Context, s *ourService, n int) (*crowd, error) {
	p, err := e.role(ctx, "crowd", crowdSettings{Service: e.scheme() + "://" + s.addr, Secret: s.secret, Tunnels: n, Dialers: 32}, nil)
	if err != nil {
		return nil, err
	}
	c := &crowd{process: p}
	return c, c.wait(ctx, func(connected int) bool { return connected == n })
}

// wait reads the crowd's output until done returns true for the number of
// connected tunnels.
func (c *crowd) wait(ctx context.Context, done func(connected int) bool) error {
	for {
		line, err := c.line(ctx, crowdTimeout)
		if err != nil {
			return fmt.Errorf("%d tunnels connected, then: %w", c.connected, err)
		}
		var status crowdStatus
		if err := c.decode(line, &status); err != nil {
			return err
		}
		c.connected = status.Connected
		if done(status.Connected) {
			return nil
		}
	}
}
