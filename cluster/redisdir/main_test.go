package redisdir_test

import (
	"testing"

	"go.uber.org/goleak"
)

// After Close the client for a Redis Cluster waits up to 5 s before it ends
// connections to servers that have left, and remembers for a second that it has looked for them.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"))
}
