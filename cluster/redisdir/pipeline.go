package redisdir

import (
	"cmp"
	"context"
	"fmt"

	"github.com/redis/rueidis"
)

// eval is a script with its arguments.
type eval struct {
	script, key string
	args        []string
}

// reply is the answer to one script of a pipeline.
type reply struct {
	text string // "" if it is no text
	err  error
}

// pipeline sends scripts, at most maxPipeline, in one round trip. Each has a reply of its
// own, since one shard may be there and another not. The error is that of all of
// them.
func (d *Directory) pipeline(ctx context.Context, op string, scripts []eval) ([]reply, error) {
	return call(ctx, d, op, func(c rueidis.Client) ([]reply, error) {
		commands := make([]rueidis.Completed, len(scripts))
		for i, s := range scripts {
			commands[i] = c.B().Eval().Script(s.script).Numkeys(1).Key(s.key).Arg(s.args...).Build()
		}
		replies := make([]reply, len(scripts))
		var first error
		lost := 0
		for i, r := range c.DoMulti(context.Background(), commands...) {
			replies[i].text, _ = r.ToString()
			if err := r.Error(); err != nil {
				replies[i].err = fmt.Errorf("redisdir: %s: %w", op, d.clean(err))
			}
			if err := r.NonRedisError(); err != nil {
				first = cmp.Or(first, err)
				lost++
			}
		}
		if lost == len(scripts) {
			return nil, first
		}
		return replies, nil
	})
}
