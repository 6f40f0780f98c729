package main

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/admin"
)

// The address that other nodes reach is the one from which the store is reached. While
// its name does not resolve, as that of a container that is not running, it is the one
// that leads to the rest of the world.
func TestLocalAddress(t *testing.T) {
	if got, err := localAddress([]string{"127.0.0.1:6379"}); got != "127.0.0.1" || err != nil {
		t.Errorf("for a store on this machine: %q, %v", got, err)
	}
	got, err := localAddress([]string{"store.invalid:6379"})
	if err == nil && (net.ParseIP(got) == nil || admin.IsLoopback(got)) {
		t.Errorf("for a store without an address: %q", got)
	}
	if err != nil && !strings.Contains(err.Error(), "store.invalid") { // this machine has no network
		t.Errorf("for a store without an address: %v", err)
	}
}

func TestAdvertise(t *testing.T) {
	for _, tt := range []struct {
		listen, advertise string
		port              int // that is listened on
		want              string
	}{
		{"", "10.0.0.5:1234", 8444, "10.0.0.5:1234"},
		{"", "10.0.0.5", 8444, "10.0.0.5:8444"},
		{":9000", "node-1.example", 9000, "node-1.example:9000"},
		{":9000", "::1", 9000, "[::1]:9000"},
		{":9000", "[2001:db8::5]", 9000, "[2001:db8::5]:9000"},
		{":9000", "[2001:db8::5]:9001", 9000, "[2001:db8::5]:9001"},
		{"10.0.0.5:9000", "", 9000, "10.0.0.5:9000"},
		{"127.0.0.1:0", "127.0.0.1", 40000, "127.0.0.1:40000"},
	} {
		c, err := configOf(false, "CLUSTER_REDIS", "redis://192.0.2.1", "CLUSTER_SECRET_A", strings.Repeat("n", 16), "CLUSTER_NODE", "a", "CLUSTER_LISTEN", tt.listen, "CLUSTER_ADVERTISE", tt.advertise)
		if got := c.cluster.advertise(tt.port); got != tt.want || err != nil {
			t.Errorf("listening on %q, advertising %q: %q, want %q, %v", tt.listen, tt.advertise, got, tt.want, err)
		}
	}
}

// TestStoreFault: what servers say becomes what is wrong and what to do about it.
func TestStoreFault(t *testing.T) {
	for _, tc := range []struct {
		err          string
		secure       bool
		what, remedy string
	}{
		{"redisdir: ping: NOAUTH HELLO must be called with the client already authenticated, otherwise …", false, "it asks for a password", "CLUSTER_REDIS_PASSWORD_FILE"},
		{"redisdir: ping: WRONGPASS invalid username-password pair or user is disabled.", false, "WRONGPASS", "correct the password"},
		{"redisdir: ping: NOPERM this user has no permissions to run the 'eval' command", false, "'eval'", "ACL SETUSER"},
		{"redisdir: ping: subscribing: NOPERM User nosub has no permissions to run the 'subscribe' command", false, "'subscribe'", "ACL SETUSER"},
		{"redisdir: ping: The user executing the script can't run this command or subcommand script: 8e515014be6f9c77eaab77e7e6f307930741c591, on @user_script:6.", false, "subcommand", "ACL SETUSER"},
		{"redisdir: ping: The user executing the script can't publish to the channel mentioned in the command script: 8e515014be6f9c77eaab77e7e6f307930741c591, on @user_script:6.", false, "channels that begin with CLUSTER_KEY_PREFIX", "ACL SETUSER"},
		{"redisdir: ping: NOPERM No permissions to access a key", false, "keys that begin with CLUSTER_KEY_PREFIX", "ACL SETUSER"},
		{"redisdir: ping: unknown command 'SENTINEL', with args beginning with: 'SENTINELS' 'mymaster' ", false, "no sentinel", "without +sentinel"},
		{"redisdir: ping: No such master with that name", false, "do not know the master", "SENTINEL MASTERS"},
		{"redisdir: ping: unknown command `HELLO`, with args beginning with: `3`, ", false, "RESP3", "6.2"},
		{"redisdir: ping: unknown command 'EVAL', with args beginning with: ' redis.call('SET', KEYS[1]' ", false, "no scripts", "redis+sentinel://"},
		{"redisdir: ping: DB index is out of range", false, "no database", "leave it out"},
		{"redisdir: ping: OOM command not allowed when used memory > 'maxmemory'. script: 8e515014be6f9c77eaab77e7e6f307930741c591, on @user_script:2.", false, "no room", "noeviction"},
		{"redisdir: ping: READONLY You can't write against a read only replica. script: 8e515014be6f9c77eaab77e7e6f307930741c591, on @user_script:2.", false, "replica", "primary"},
		{"redisdir: ping: tls: failed to verify certificate: x509: certificate signed by unknown authority", true, "unknown authority", "CLUSTER_REDIS_CA_FILE"},
		{"redisdir: ping: the server is not part of a Redis Cluster: use a URL with redis or rediss", false, "use a URL with redis or rediss", "correct the URL"},
		{"redisdir: ping: the store does not answer", true, "does not answer", "redis:// instead of rediss://"},
		{"redisdir: ping: the store does not answer", false, "does not answer", "start it"},
		{"redisdir: ping: read tcp 127.0.0.1:45116->127.0.0.1:7393: read: connection reset by peer", false, "reset", "rediss:// instead of redis://"},
		{"redisdir: ping: dial tcp: lookup nosuch.invalid: no such host", false, "no such host", "correct the host"},
		{"redisdir: ping: dial tcp 127.0.0.1:7399: connect: connection refused", false, "refused", "start it"},
	} {
		what, remedy := storeFault(errors.New(tc.err), tc.secure)
		if !strings.Contains(what, tc.what) || !strings.Contains(remedy, tc.remedy) || strings.Contains(what, "redisdir") || strings.Contains(what, "script:") {
			t.Errorf("%s:\n%s; %s", tc.err, what, remedy)
		}
	}
}
