package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Other projects' programs are measured if they are installed, configured as
// their manuals say, without TLS and, where possible, without authentication. If
// one does not start with these settings, the output names it.

// installed reports whether all programs are on the PATH.
func (c contestant) installed() bool {
	for _, name := range c.programs {
		if _, err := exec.LookPath(name); err != nil {
			return false
		}
	}
	return true
}

// ports returns n free ports.
func ports(n int) ([]int, error) {
	var free []int
	for range n {
		p, err := freePort()
		if err != nil {
			return nil, err
		}
		free = append(free, p)
	}
	return free, nil
}

// configFile writes a configuration.
func (e *environment) configFile(name string, lines ...string) (string, error) {
	path := filepath.Join(e.dir, name)
	return path, os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600)
}

// peer starts the two ends of a program and waits until requests pass.
// registration is the port of the service that the client connects to.
func (e *environment) peer(ctx context.Context, viewers endpoint, registration int,
	service func() (*process, error), client func(host, port string) (*process, error),
) (*contender, error) {
	s, err := service()
	if err != nil {
		return nil, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", registration)
	if err := s.accepts(ctx, addr); err != nil {
		return nil, err
	}
	addr, err = e.linked(ctx, addr)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	c, err := client(host, port)
	if err != nil {
		return nil, err
	}
	if err := c.answers(ctx, "http://"+viewers.Addr+"/bytes?n=1", viewers.Host); err != nil {
		return nil, err
	}
	return &contender{endpoints: []endpoint{viewers}, service: []*process{s}, client: []*process{c}}, nil
}

func startFRP(ctx context.Context, e *environment) (*contender, error) {
	p, err := ports(2)
	if err != nil {
		return nil, err
	}
	targetHost, targetPort, err := net.SplitHostPort(e.target)
	if err != nil {
		return nil, err
	}
	const domain = "bench.example.com"
	viewers := endpoint{Addr: fmt.Sprintf("127.0.0.1:%d", p[1]), Host: domain}
	return e.peer(ctx, viewers, p[0], func() (*process, error) {
		config, err := e.configFile("frps.toml",
			`bindAddr = "127.0.0.1"`,
			fmt.Sprintf("bindPort = %d", p[0]),
			fmt.Sprintf("vhostHTTPPort = %d", p[1]))
		if err != nil {
			return nil, err
		}
		return e.start(ctx, "frps", nil, false, "frps", "-c", config)
	}, func(host, port string) (*process, error) {
		config, err := e.configFile("frpc.toml",
			fmt.Sprintf("serverAddr = %q", host),
			"serverPort = "+port,
			`transport.protocol = "websocket"`,
			"transport.tls.enable = false",
			"[[proxies]]",
			`name = "bench"`,
			`type = "http"`,
			fmt.Sprintf("localIP = %q", targetHost),
			"localPort = "+targetPort,
			fmt.Sprintf("customDomains = [%q]", domain))
		if err != nil {
			return nil, err
		}
		return e.start(ctx, "frpc", nil, false, "frpc", "-c", config)
	})
}

func startPiko(ctx context.Context, e *environment) (*contender, error) {
	p, err := ports(4)
	if err != nil {
		return nil, err
	}
	bind := func(flag string, port int) string { return fmt.Sprintf("--%s.bind-addr=127.0.0.1:%d", flag, port) }
	// The first label of the host is the name of the endpoint.
	viewers := endpoint{Addr: fmt.Sprintf("127.0.0.1:%d", p[0]), Host: "bench.example.com"}
	return e.peer(ctx, viewers, p[1], func() (*process, error) {
		return e.start(ctx, "piko-server", nil, false, "piko", "server",
			bind("proxy", p[0]), bind("upstream", p[1]), bind("admin", p[2]), bind("cluster.gossip", p[3]))
	}, func(host, port string) (*process, error) {
		return e.start(ctx, "piko-agent", nil, false, "piko", "agent", "http", "bench", e.target,
			"--connect.url=http://"+net.JoinHostPort(host, port))
	})
}

func startChisel(ctx context.Context, e *environment) (*contender, error) {
	p, err := ports(2)
	if err != nil {
		return nil, err
	}
	viewers := endpoint{Addr: fmt.Sprintf("127.0.0.1:%d", p[1])}
	return e.peer(ctx, viewers, p[0], func() (*process, error) {
		return e.start(ctx, "chisel-server", nil, false, "chisel", "server", "--reverse", "--host", "127.0.0.1", "--port", fmt.Sprint(p[0]))
	}, func(host, port string) (*process, error) {
		return e.start(ctx, "chisel-client", nil, false, "chisel", "client", "http://"+net.JoinHostPort(host, port),
			fmt.Sprintf("R:%s:%s", viewers.Addr, e.target))
	})
}

// startHAProxy needs HAProxy 2.9 or later, which has reverse HTTP.
func startHAProxy(ctx context.Context, e *environment) (*contender, error) {
	p, err := ports(2)
	if err != nil {
		return nil, err
	}
	head := []string{"global", "expose-experimental-directives", "nbthread 1", "defaults", "mode http", "timeout connect 10s",
		"timeout client 1h", "timeout server 1h"}
	viewers := endpoint{Addr: fmt.Sprintf("127.0.0.1:%d", p[1])}
	return e.peer(ctx, viewers, p[0], func() (*process, error) {
		config, err := e.configFile("haproxy-service.cfg", append(head,
			"frontend viewers", "bind "+viewers.Addr, "default_backend tunnel",
			"backend tunnel", "server client rhttp@",
			"frontend register", fmt.Sprintf("bind 127.0.0.1:%d proto h2", p[0]), "tcp-request session attach-srv tunnel/client",
		)...)
		if err != nil {
			return nil, err
		}
		return e.start(ctx, "haproxy-service", nil, false, "haproxy", "-db", "-f", config)
	}, func(host, port string) (*process, error) {
		config, err := e.configFile("haproxy-client.cfg", append(head,
			"backend register", "server service "+net.JoinHostPort(host, port)+" proto h2",
			"frontend tunnel", "bind rhttp@register/service", "default_backend target",
			"backend target", "server target "+e.target,
		)...)
		if err != nil {
			return nil, err
		}
		return e.start(ctx, "haproxy-client", nil, false, "haproxy", "-db", "-f", config)
	})
}
