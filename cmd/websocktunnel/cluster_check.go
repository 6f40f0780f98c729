package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/cluster/redisdir"
	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
	"github.com/websocktunnel/websocktunnel/internal/redact"
)

// tryTimeout is how long serve --check waits for the store.
const tryTimeout = 5 * time.Second

// tryCluster tries what a node needs of its surroundings: the store, a name of its own,
// and the address to listen on. err is what is wrong with c; what tryCluster finds is
// added to that.
func tryCluster(c *config, err error) error {
	var known *cliapp.UsageError
	if !c.clustered() || err != nil && !errors.As(err, &known) {
		return err
	}
	var faults cliapp.Faults
	if known != nil {
		for _, line := range known.Lines {
			faults.Add("%s", line)
		}
	}
	here := false
	if !c.cluster.storeFaulty {
		var fault string
		if here, fault = c.tryStore(); fault != "" {
			faults.Add("%s", fault)
		}
	}
	if c.cluster.listen == "" {
		return faults.Err() // with what is noted already
	}
	switch ln, err := net.Listen("tcp", c.cluster.listen); {
	case err == nil:
		ln.Close()
	case here && portTaken(err): // by this very node
	default:
		faults.Add("%v", clusterListenError(c.cluster.listen, err))
	}
	return faults.Err()
}

// inScript is what a store says of the place of a fault in a script.
var inScript = regexp.MustCompile(`:? *script: [0-9a-f]{40}, on @user_script:\d+\.$`)

// storeFault returns in short what err says is wrong with the store, and what to do about
// it. secure says that the URL asks for TLS.
func storeFault(err error, secure bool) (what, remedy string) {
	what = strings.TrimPrefix(err.Error(), "redisdir: ")
	what = strings.TrimPrefix(what, "ping: ")
	what = inScript.ReplaceAllString(strings.TrimSpace(what), "")
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(what, w) })
	}
	const rights = "give the user the rights that docs/cluster.md lists (ACL SETUSER)"
	switch {
	case has("NOAUTH"):
		return "it asks for a password", "set CLUSTER_REDIS_PASSWORD_FILE, or put user and password into the URL"
	case has("WRONGPASS", "invalid password"):
		remedy = "correct the password (CLUSTER_REDIS_PASSWORD), and the user in the URL"
	case has("can't publish", "access a channel", "access one of the channels"):
		return "the user may not use the channels that begin with CLUSTER_KEY_PREFIX", rights
	case has("access a key", "access one of the keys", "can't access"):
		return "the user may not use the keys that begin with CLUSTER_KEY_PREFIX", rights
	case has("NOPERM", "can't run this command"):
		remedy = rights
	case has("'SENTINEL'", "`SENTINEL`"):
		return "it is no sentinel", "name the sentinels, whose port is 26379 as a rule, or use redis:// without +sentinel"
	case has("No such master"):
		return "the sentinels do not know the master of this name", "correct the name after the slash: SENTINEL MASTERS lists those that they know"
	case has("HELLO"):
		return "it does not understand RESP3: " + what, "use Redis 6.2 or Valkey 7.2, or later, without a proxy that speaks RESP2 only"
	case has("'EVAL'", "`EVAL`", "'EVALSHA'"):
		return "it runs no scripts (EVAL)", "if it is a sentinel, use redis+sentinel://HOST/MASTER; otherwise allow EVAL"
	case has("DB index", "invalid DB"):
		return "it has no database of this number", "correct the number at the end of the URL, or leave it out"
	case has("OOM"):
		return "it has no room (maxmemory)", "give it more, with maxmemory-policy noeviction"
	case has("READONLY"):
		return "it is a replica, which takes no writes", "name the primary, or the sentinels with redis+sentinel://"
	case has("not trusted", "x509", "certificate"):
		remedy = "set CLUSTER_REDIS_CA_FILE to the CA of its certificate, and use a host that the certificate names"
	case has("use a URL with"):
		remedy = "correct the URL"
	case secure && has("does not answer", "EOF", "reset by peer", "first record does not look like a TLS handshake"):
		remedy = "if it speaks no TLS at this port, use redis:// instead of rediss://; otherwise look at the store and the network"
	case has("EOF", "reset by peer"):
		remedy = "if it speaks TLS at this port, use rediss:// instead of redis://; otherwise look at the store"
	case has("no such host"):
		remedy = "correct the host"
	default:
		remedy = "start it, or correct the host and the port; a firewall may be between"
	}
	return what, remedy
}

// tryStore reports whether this node runs already, and returns what is wrong with the
// store or with the node's name.
func (c *config) tryStore() (here bool, fault string) {
	d, err := redisdir.New(c.cluster.store)
	if err != nil {
		return false, "" // which is noted already
	}
	defer d.Close()
	ctx, cancel := context.WithTimeout(context.Background(), tryTimeout)
	defer cancel()
	var nodes []cluster.Node
	if err = d.Ping(ctx); err == nil {
		nodes, err = d.Nodes(ctx)
	}
	if err != nil {
		url := c.cluster.store.URL
		what, remedy := storeFault(err, strings.HasPrefix(url, "rediss"))
		return false, fmt.Sprintf("CLUSTER_REDIS %q: the store cannot be used: %s; %s", redact.URL(url), what, remedy)
	}
	keys, err := cluster.NewKeys(c.server.Cluster.Secrets...)
	if err != nil {
		return false, "" // which is noted already
	}
	own := c.server.Cluster
	for _, n := range nodes {
		switch {
		case n.Name != own.Node:
		case !keys.CheckNode(n):
			return false, fmt.Sprintf("CLUSTER_NODE %q: a node of this name, at %s, has another secret: give this node another name, or the same secret as the others (%s, %s)", n.Name, n.Addr, clusterSecrets[0], clusterSecrets[1])
		case n.Addr != own.Addr:
			return false, fmt.Sprintf("CLUSTER_NODE %q: another node, at %s, has this name: each node needs its own", n.Name, n.Addr)
		default:
			c.warn("CLUSTER_NODE %q: a node of this name and with this address, %s, is running: this configuration is taken to be its own", n.Name, n.Addr)
			here = true
		}
	}
	return here, ""
}
