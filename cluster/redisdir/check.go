package redisdir

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"

	"github.com/websocktunnel/websocktunnel/cluster"
)

// Ping tries all that the directory needs of the store: the connection, the user's
// rights, and a subscription. It writes 16 keys and deletes them again, so that of a
// Redis Cluster it meets each shard, and of a store that has no room it meets the
// error.
func (d *Directory) Ping(ctx context.Context) error {
	name := rand.Text()
	scripts := make([]eval, 16)
	for i := range scripts {
		scripts[i] = eval{checkScript, d.KeyPrefix + "check:" + name + strconv.Itoa(i), []string{d.channel(), "p"}}
	}
	replies, err := d.pipeline(ctx, "ping", scripts)
	if err != nil {
		return err
	}
	for _, r := range replies {
		if r.err != nil {
			return r.err
		}
		if r.text != "p" {
			return fmt.Errorf("redisdir: ping: the store does not keep what is written: it has %q", r.text)
		}
	}
	if _, err := d.Nodes(ctx); err != nil {
		return err
	}
	watching, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err = d.watch(watching, func(cluster.Event) { cancel(errHeard) })
	if err != nil && !errors.Is(context.Cause(watching), errHeard) {
		return fmt.Errorf("redisdir: ping: subscribing: %w", err)
	}
	return nil
}

var errHeard = errors.New("heard")
