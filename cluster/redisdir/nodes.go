package redisdir

import (
	"context"
	"net/url"
	"slices"

	"github.com/redis/rueidis"

	"github.com/websocktunnel/websocktunnel/cluster"
)

// Beat implements [cluster.Directory].
func (d *Directory) Beat(ctx context.Context, n cluster.Node) (known bool, err error) {
	value := nodeValue(n)
	if err := checkLength("beat", n.Name, value); err != nil {
		return false, err
	}
	replies, err := d.pipeline(ctx, "beat", []eval{
		{beatScript, d.nodeKey(n.Name), []string{
			maxLength, value, statePrefix(n), nodeLife, d.channel(), message(nodeChanged, n.Name, value),
		}},
		{enlistScript, d.nodesKey(), []string{url.QueryEscape(n.Name), listLife, maxNodesText}},
	})
	if err != nil {
		return false, err
	}
	for _, r := range replies {
		if r.err != nil {
			return false, r.err
		}
	}
	before, ok := parseNode(n.Name, replies[0].text)
	return ok && before.Boot == n.Boot, nil
}

// Leave implements [cluster.Directory].
func (d *Directory) Leave(ctx context.Context, n cluster.Node) error {
	replies, err := d.pipeline(ctx, "leave", []eval{
		// Its name stays in the list, where it hurts nobody. A new process may have
		// put it there.
		{deleteScript, d.nodeKey(n.Name), []string{
			maxLength, bootPrefix(n), "", d.channel(), message(nodeLeft, n.Name, nodeValue(n)),
		}},
	})
	if err != nil {
		return err
	}
	return replies[0].err
}

// Nodes implements [cluster.Directory]. It returns 1024 nodes at most, and leaves out
// what is no node.
func (d *Directory) Nodes(ctx context.Context) ([]cluster.Node, error) {
	names, err := call(ctx, d, "nodes", func(c rueidis.Client) ([]string, error) {
		return c.Do(context.Background(), c.B().Eval().Script(listScript).Numkeys(1).Key(d.nodesKey()).
			Arg(maxNodesText, maxNameText).Build()).AsStrSlice()
	})
	if err != nil {
		return nil, err
	}
	var list []cluster.Node
	for chunk := range slices.Chunk(names, maxPipeline) {
		nodes, err := call(ctx, d, "nodes", func(c rueidis.Client) ([]cluster.Node, error) {
			return d.readNodes(c, chunk)
		})
		if err != nil {
			return nil, err
		}
		list = append(list, nodes...)
	}
	return list, nil
}

// readNodes returns those of the nodes that are there. names are escaped.
func (d *Directory) readNodes(c rueidis.Client, names []string) ([]cluster.Node, error) {
	var commands []rueidis.Completed
	var asked []string
	for _, name := range names {
		if name, err := url.QueryUnescape(name); err == nil {
			asked = append(asked, name)
			commands = append(commands, d.getrange(c, d.nodeKey(name)))
		}
	}
	var nodes []cluster.Node
	for i, r := range c.DoMulti(context.Background(), commands...) {
		value, err := readValue(r)
		if err != nil {
			return nil, err
		}
		if n, ok := parseNode(asked[i], value); ok {
			nodes = append(nodes, n)
		}
	}
	return nodes, nil
}
