package redisdir

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/websocktunnel/websocktunnel/cluster"
)

// A Directory is a [cluster.Directory] in Redis or Valkey. [New] makes one.
type Directory struct {
	settings

	inFlight chan struct{}  // has room for exchanges that may begin
	running  sync.WaitGroup // goroutines

	mu      sync.Mutex
	attempt *attempt // nil: none is running, and none has succeeded
	closed  bool
	closing chan struct{} // closed by Close
}

var _ cluster.Directory = (*Directory)(nil)

// New returns the directory that cfg describes. It connects to nothing yet, so its
// error is about cfg alone: see [Config.Validate].
func New(cfg Config) (*Directory, error) {
	s, err := check(cfg)
	if err != nil {
		return nil, err
	}
	return &Directory{
		settings: s,
		inFlight: make(chan struct{}, maxInFlight),
		closing:  make(chan struct{}),
	}, nil
}

// Close ends all connections, and all calls.
func (d *Directory) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	close(d.closing)
	a := d.attempt
	d.mu.Unlock()
	if a != nil {
		if <-a.done; a.client != nil {
			a.client.Close()
		}
	}
	d.running.Wait()
	return nil
}

func (d *Directory) entryKey(id string) string  { return d.KeyPrefix + "t:" + url.QueryEscape(id) }
func (d *Directory) nodeKey(name string) string { return d.KeyPrefix + "n:" + url.QueryEscape(name) }
func (d *Directory) nodesKey() string           { return d.KeyPrefix + "nodes" }
func (d *Directory) channel() string            { return d.KeyPrefix + "ev" }

const (
	// maxPipeline is how many commands are sent together, so that others get
	// their turn between them.
	maxPipeline = 100

	// maxNodes is how many nodes are listed.
	maxNodes = 1024
)

// Numbers for scripts.
var (
	maxLength    = strconv.Itoa(maxValue)
	maxNameText  = strconv.Itoa(maxName)
	maxNodesText = strconv.Itoa(maxNodes)

	entryLife = strconv.FormatInt(cluster.EntryLife.Milliseconds(), 10)
	nodeLife  = strconv.FormatInt(cluster.NodeLife.Milliseconds(), 10)

	// listLife is in seconds, and twice as long as a node lives: a beat that is late
	// must not find its node gone from the list.
	listLife = strconv.Itoa(int(2 * cluster.NodeLife / time.Second))
)

// Put implements [cluster.Directory]. An entry that cannot be stored, because it is too
// long or the store refuses it, has a zero Outcome; the error is about the first of
// them, and the others are put nevertheless.
func (d *Directory) Put(ctx context.Context, entries []cluster.Entry) ([]cluster.Outcome, error) {
	outcomes := make([]cluster.Outcome, len(entries))
	writes := make([]write, 0, len(entries))
	var first error
	for i, e := range entries {
		w := write{index: i, entry: e, value: entryValue(e)}
		if err := checkLength("put", e.ID, w.value); err != nil {
			first = cmp.Or(first, err)
			continue
		}
		writes = append(writes, w)
	}
	// A round stores what is new, or newer than what the round before has found. A
	// write that finds yet another entry has been overtaken, and is judged again.
	for len(writes) > 0 {
		var again []write
		for chunk := range slices.Chunk(writes, maxPipeline) {
			scripts := make([]eval, len(chunk))
			for i, w := range chunk {
				scripts[i] = eval{putScript, d.entryKey(w.entry.ID), []string{
					maxLength, w.value, w.found, entryLife, d.channel(), message(claimed, w.entry.ID, w.value),
				}}
			}
			replies, err := d.pipeline(ctx, "put", scripts)
			if err != nil {
				return outcomes, cmp.Or(first, err)
			}
			for i, r := range replies {
				w := chunk[i]
				if r.err != nil {
					first = cmp.Or(first, r.err)
					continue
				}
				if r.text == "" {
					outcomes[w.index] = cluster.Outcome{Verdict: cluster.Stored, Before: w.before}
					continue
				}
				w.found = r.text
				w.before, _ = parseEntry(w.entry.ID, r.text)
				v := cluster.Judge(w.before, w.entry)
				if v == cluster.Kept && w.found != w.value {
					v = cluster.Stored // words that its node has not written do not keep it alive
				}
				if v != cluster.Stored {
					outcomes[w.index] = cluster.Outcome{Verdict: v, Before: w.before}
					continue
				}
				again = append(again, w)
			}
		}
		writes = again
	}
	return outcomes, first
}

// A write is an entry that is being put.
type write struct {
	index  int // in the list of entries
	entry  cluster.Entry
	value  string
	found  string        // what the store holds, as far as is known
	before cluster.Entry // the same, if it is an entry
}

func checkLength(op, name, value string) error {
	if n := len(url.QueryEscape(name)); n == 0 || n > maxName {
		return fmt.Errorf("redisdir: %s: a name of %d bytes cannot be stored, only 1 to %d", op, n, maxName)
	}
	if len(value) > maxValue {
		return fmt.Errorf("redisdir: %s: %q has %d bytes, and only %d can be stored", op, name, len(value), maxValue)
	}
	return nil
}

// Delete implements [cluster.Directory].
func (d *Directory) Delete(ctx context.Context, entries []cluster.Entry) error {
	var first error
	for chunk := range slices.Chunk(entries, maxPipeline) {
		scripts := make([]eval, len(chunk))
		for i, e := range chunk {
			value := entryValue(e)
			scripts[i] = eval{deleteScript, d.entryKey(e.ID), []string{
				maxLength, value, "exact", d.channel(), message(released, e.ID, value),
			}}
		}
		replies, err := d.pipeline(ctx, "delete", scripts)
		if err != nil {
			return cmp.Or(first, err)
		}
		for _, r := range replies {
			first = cmp.Or(first, r.err)
		}
	}
	return first
}

// Get implements [cluster.Directory].
func (d *Directory) Get(ctx context.Context, id string) (cluster.Entry, error) {
	value, err := call(ctx, d, "get", func(c rueidis.Client) (string, error) {
		return readValue(c.Do(context.Background(), d.getrange(c, d.entryKey(id))))
	})
	if err != nil {
		return cluster.Entry{}, err
	}
	e, ok := parseEntry(id, value)
	if !ok {
		return cluster.Entry{}, cluster.ErrAbsent
	}
	return e, nil
}

// getrange is the command that reads a value and no more than one byte too many.
func (d *Directory) getrange(c rueidis.Client, key string) rueidis.Completed {
	return c.B().Getrange().Key(key).Start(0).End(maxValue).Build()
}

// readValue returns what a key holds, "" if it has another type.
func readValue(r rueidis.RedisResult) (string, error) {
	s, err := r.ToString()
	if re, ok := rueidis.IsRedisErr(err); ok && strings.HasPrefix(re.Error(), "WRONGTYPE") {
		return "", nil
	}
	return s, err
}
