package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/cluster/redisdir"
	"github.com/websocktunnel/websocktunnel/internal/admin"
	"github.com/websocktunnel/websocktunnel/server"
)

// defaultClusterListen is where nodes listen for each other: a port that needs no
// privilege, that no system chooses for outgoing connections, and that is none of
// those which viewers (80, 443, 8080, 8443) or operators (9090) usually have.
const defaultClusterListen = ":8444"

// clusterSecrets are the variables with what all nodes share.
var clusterSecrets = [...]string{"CLUSTER_SECRET_A", "CLUSTER_SECRET_B"}

// clusterConfig is what a node of a cluster is made of.
type clusterConfig struct {
	store  redisdir.Config
	listen string // CLUSTER_LISTEN; "": it has a fault
	host   string // where other nodes reach this one
	port   string // "" means that of listen

	storeFaulty bool // a setting of the store has a fault
}

// clustered reports whether the service is one of several nodes.
func (c *config) clustered() bool { return c.server.Cluster != nil }

// readCluster reads the settings of a node, after readAddress, readSecrets and
// readAdmin. deriving finds out what address other nodes reach, if none is set.
func (c *config) readCluster(s *settings, deriving bool) {
	if !s.isSet("CLUSTER_REDIS") {
		for _, v := range variables {
			if v.category == catCluster && s.isSet(v.name) {
				c.warn("%s has no effect: the service is one of several nodes only with CLUSTER_REDIS", v.name)
			}
		}
		return
	}
	node := s.text("CLUSTER_NODE")
	if node == "" {
		node, _ = os.Hostname()
	}
	c.server.Cluster = &server.ClusterConfig{Node: node}
	c.readClusterSecrets(s)
	c.readStore(s)
	if !c.readClusterListen(s) {
		c.cluster.listen = ""
		c.server.Cluster.Addr = "pending.invalid:1" // which nobody uses
		return
	}
	c.readAdvertise(s, deriving)
	c.server.Cluster.Addr = c.cluster.advertise(0)
}

// readClusterSecrets reads what nodes prove to each other that they know.
func (c *config) readClusterSecrets(s *settings) {
	given := false
	var secrets [][]byte
	for _, name := range clusterSecrets {
		given = given || s.isSet(name)
		secret := []byte(strings.TrimSpace(s.secret(name))) // on each node the same, wherever it stands
		switch {
		case len(secret) == 0:
			continue
		case len(secret) < cluster.MinSecret:
			s.fault(name, "is shorter than %d bytes, so that it can be guessed: use a longer one, such as the output of \"openssl rand -hex 32\"", cluster.MinSecret)
		}
		for _, signing := range c.server.Secrets {
			if bytes.Equal(secret, signing) {
				c.warn("%s is a secret that signs tokens too, so that their issuers could pass for nodes: use one that only nodes know", name)
			}
		}
		secrets = append(secrets, secret)
	}
	if !given {
		s.fault(clusterSecrets[0], "is required with CLUSTER_REDIS, or %s, or one of them with %s after its name: the same on each node", clusterSecrets[1], fileSuffix)
	}
	if len(secrets) == 2 && bytes.Equal(secrets[0], secrets[1]) {
		c.warn("%s and %s are the same: remove one of them; a rotation needs two different secrets", clusterSecrets[0], clusterSecrets[1])
	}
	c.server.Cluster.Secrets = secrets
}

// readStore reads where the nodes' directory is.
func (c *config) readStore(s *settings) {
	c.cluster.store = redisdir.Config{
		URL:              s.text("CLUSTER_REDIS"),
		Password:         s.secret("CLUSTER_REDIS_PASSWORD"),
		SentinelUser:     s.text("CLUSTER_SENTINEL_USER"),
		SentinelPassword: s.secret("CLUSTER_SENTINEL_PASSWORD"),
		TLS:              c.storeTLS(s),
		KeyPrefix:        s.text("CLUSTER_KEY_PREFIX"),
	}
	tlsVariable := "CLUSTER_REDIS_CA"
	if !s.isSet(tlsVariable) {
		tlsVariable = "CLUSTER_REDIS_CERTIFICATE"
	}
	s.configFaults(c.cluster.store.Validate(), map[string]string{
		"URL":              "CLUSTER_REDIS",
		"Password":         "CLUSTER_REDIS_PASSWORD",
		"SentinelPassword": "CLUSTER_SENTINEL_PASSWORD",
		"TLS":              tlsVariable,
		"KeyPrefix":        "CLUSTER_KEY_PREFIX",
	})
	for name := range s.faulty {
		c.cluster.storeFaulty = c.cluster.storeFaulty || strings.HasPrefix(name, "CLUSTER_REDIS") || strings.HasPrefix(name, "CLUSTER_SENTINEL")
	}
}

// storeTLS returns how to speak TLS with the store, or nil if nothing says so.
func (c *config) storeTLS(s *settings) *tls.Config {
	const ca, cert, key = "CLUSTER_REDIS_CA", "CLUSTER_REDIS_CERTIFICATE", "CLUSTER_REDIS_KEY"
	switch hasCert, hasKey := s.isSet(cert), s.isSet(key); {
	case hasCert && !hasKey:
		s.fault(key, "is required because %s is set", cert)
	case hasKey && !hasCert:
		s.fault(cert, "is required because %s is set", key)
	case !hasCert && !s.isSet(ca):
		return nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if b := s.pem(ca); b != nil {
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(b) {
			s.fault(ca, "has no certificate in it: it must hold those of the CAs that the store's certificate comes from")
		}
	}
	if certPEM, keyPEM := s.pem(cert), s.pem(key); certPEM != nil && keyPEM != nil {
		pair, err := tls.X509KeyPair(certPEM, keyPEM)
		if err != nil {
			s.fault(cert, "and %s do not match: %v", key, err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t
}

// readClusterListen reads where to listen for other nodes, and reports whether that
// can be.
func (c *config) readClusterListen(s *settings) bool {
	const name = "CLUSTER_LISTEN"
	c.cluster.listen = cmp.Or(s.text(name), defaultClusterListen)
	host, port, err := net.SplitHostPort(c.cluster.listen)
	n, e := strconv.ParseUint(port, 10, 16)
	if err != nil || e != nil || host != "" && !isHost(host) {
		s.fault(name, "%q: it must be host:port or :port, such as %s", c.cluster.listen, defaultClusterListen)
		return false
	}
	if n == 0 {
		return true
	}
	if int(n) == c.port && sameAddress(host, c.addr) && os.Getenv("LISTEN_FDS") == "" {
		s.fault(name, "%q: viewers and tunnel clients use port %d of that address already (PORT, LISTEN_ADDR): use another port", c.cluster.listen, n)
	}
	adminHost, adminPort, err := net.SplitHostPort(c.admin.addr)
	if err == nil && adminPort == port && sameAddress(host, adminHost) {
		s.fault(name, "%q: the admin listener uses port %d of that address already (ADMIN_ADDR): use another port", c.cluster.listen, n)
	}
	return true
}

// readAdvertise reads where other nodes reach this one, or finds it out.
func (c *config) readAdvertise(s *settings, deriving bool) {
	const name = "CLUSTER_ADVERTISE"
	const remedy = "set it to host:port, where other nodes reach this one"
	if value := s.text(name); value != "" {
		host, port, err := net.SplitHostPort(value)
		if err != nil { // no port
			host, port = strings.Trim(value, "[]"), ""
		}
		n, e := strconv.ParseUint(port, 10, 16)
		if port != "" && (e != nil || n == 0) || err == nil && port == "" || !isHost(host) {
			s.fault(name, "%q: it must be host:port, or a host alone for the port of CLUSTER_LISTEN, such as 10.0.0.5%s", value, defaultClusterListen)
			return
		}
		c.cluster.host, c.cluster.port = host, port
		return
	}
	// What is listened on is what can be reached.
	host, _, _ := net.SplitHostPort(c.cluster.listen)
	source := "the host of CLUSTER_LISTEN"
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		if !deriving || s.faulty["CLUSTER_REDIS"] {
			c.cluster.host = "pending.invalid" // which nobody uses
			return
		}
		source = "the address of this machine that leads to CLUSTER_REDIS"
		var err error
		if host, err = localAddress(c.cluster.store.Servers()); err != nil {
			s.fault(name, "is required: no address could be found by itself: %v: %s", err, remedy)
			return
		}
	}
	if admin.IsLoopback(host) {
		s.fault(name, "%q, which is %s, is a loopback address, that no other node can reach: %s", host, source, remedy)
		return
	}
	c.cluster.host = host
}

// advertise returns where other nodes reach this one, if it listens on port. Zero is
// a port that is not known yet.
func (c *clusterConfig) advertise(port int) string {
	if c.host == "" {
		return ""
	}
	p := c.port
	if p == "" {
		if _, p, _ = net.SplitHostPort(c.listen); p == "0" {
			p = strconv.Itoa(max(port, 1))
		}
	}
	return net.JoinHostPort(c.host, p)
}

// localAddress returns the address of this machine from which it reaches the first of
// servers whose name resolves. If there is none at this moment, it is the one from which
// it reaches the rest of the world. Nothing is sent.
func localAddress(servers []string) (string, error) {
	if len(servers) == 0 {
		return "", errors.New("the store is on a Unix socket")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var first error
	// The last two are for documentation (RFC 5737, RFC 3849): nobody has them.
	for _, addr := range append(servers[:len(servers):len(servers)], "192.0.2.1:9", "[2001:db8::1]:9") {
		c, err := new(net.Dialer).DialContext(ctx, "udp", addr)
		if err != nil {
			first = cmp.Or(first, err)
			continue
		}
		c.Close()
		if a, ok := c.LocalAddr().(*net.UDPAddr); ok {
			return a.AddrPort().Addr().Unmap().WithZone("").String(), nil
		}
	}
	return "", first
}

// listenCluster opens the listener for other nodes, and the directory, if the service
// is one of several. The store need not be there.
func (c *config) listenCluster() (net.Listener, *redisdir.Directory, error) {
	if !c.clustered() {
		return nil, nil, nil
	}
	ln, err := net.Listen("tcp", c.cluster.listen)
	if err != nil {
		return nil, nil, clusterListenError(c.cluster.listen, err)
	}
	c.cluster.store.Observe = func(op string, took time.Duration, err error) { c.server.Metrics.Store(op, took, err) }
	d, err := redisdir.New(c.cluster.store)
	if err != nil {
		ln.Close()
		return nil, nil, err
	}
	port := 0
	if a, ok := ln.Addr().(*net.TCPAddr); ok {
		port = a.Port
	}
	c.server.Cluster.Directory, c.server.Cluster.Addr = d, c.cluster.advertise(port)
	return ln, d, nil
}

func clusterListenError(addr string, err error) error {
	remedy := "choose an address of this machine, and a port above 1023"
	if portTaken(err) {
		remedy = "choose another port, or stop the program that uses this one"
	}
	return fmt.Errorf("CLUSTER_LISTEN %q: %w; %s", addr, err, remedy)
}
