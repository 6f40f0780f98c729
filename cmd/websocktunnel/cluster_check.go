package main

import (
	"context"
	"errors"
	"fmt"
	"net"
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
	here, fault := c.tryStore()
	if fault != "" {
		faults.Add("%s", fault)
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
		return false, fmt.Sprintf("CLUSTER_REDIS %q: the store cannot be used: %v; start it, or correct the URL, the password or the rights of the user", redact.URL(c.cluster.store.URL), err)
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
