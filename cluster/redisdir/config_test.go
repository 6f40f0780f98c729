package redisdir_test

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster/redisdir"
)

// TestURL: what URLs say, as kind, TLS, addresses, master, database, user and
// password.
func TestURL(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"redis://h":                                "standalone false [h:6379]  0 ",
		"redis://h/":                               "standalone false [h:6379]  0 ",
		"redis://h:7":                              "standalone false [h:7]  0 ",
		"REDIS://h:7":                              "standalone false [h:7]  0 ",
		"redis://h:7/3":                            "standalone false [h:7]  3 ",
		"redis://:pw@h":                            "standalone false [h:6379]  0 :pw",
		"redis://me:pw@h/15":                       "standalone false [h:6379]  15 me:pw",
		"redis://me:p%40%2F%3A%23w@h":              "standalone false [h:6379]  0 me:p@/:#w",
		"redis://[::1]":                            "standalone false [[::1]:6379]  0 ",
		"redis://[::1]:7":                          "standalone false [[::1]:7]  0 ",
		"rediss://h":                               "standalone true [h:6379]  0 ",
		"unix:///run/redis.sock":                   "socket false [/run/redis.sock]  0 ",
		"unix:///run/redis.sock?db=2":              "socket false [/run/redis.sock]  2 ",
		"unix://:pw@/run/redis.sock":               "socket false [/run/redis.sock]  0 :pw",
		"redis+sentinel://h/m":                     "sentinel false [h:26379] m 0 ",
		"redis+sentinel://me:pw@a:1,b,[::1]:2/m/4": "sentinel false [a:1 b:26379 [::1]:2] m 4 me:pw",
		"rediss+sentinel://a,b/my-master":          "sentinel true [a:26379 b:26379] my-master 0 ",
		"redis+cluster://a":                        "cluster false [a:6379]  0 ",
		"redis+cluster://a:1,b:2,c:3/":             "cluster false [a:1 b:2 c:3]  0 ",
		"rediss+cluster://:pw@a":                   "cluster true [a:6379]  0 :pw",
	} {
		kind, secure, addrs, master, db, user, password := redisdir.Location(url)
		got := fmt.Sprintf("%s %v %v %s %d ", kind, secure, addrs, master, db)
		if user != "" || password != "" {
			got += user + ":" + password
		}
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", url, got, want)
		}
	}
}

// TestFaults: each fault is named with the field, the value and what to do, and no
// secret is in it.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cfg  redisdir.Config
		want string // without "redisdir: "
	}{
		{redisdir.Config{}, `URL is required, such as redis://redis.example.com:6379`},
		{redisdir.Config{URL: "redis.example.com:6379"}, `URL "redis.example.com:6379": its scheme must be redis`},
		{redisdir.Config{URL: "http://u:canary@h"}, `URL "http://…@h": its scheme must be redis`},
		{redisdir.Config{URL: "u:canary@h"}, `URL "…@h": its scheme must be redis`},
		{redisdir.Config{URL: "redis://u:canary%@h"}, `URL "redis://…@h": it cannot be parsed as a URL`},
		{redisdir.Config{URL: "redis://u:can/ary@h"}, `URL "redis://…@h": `},
		{redisdir.Config{URL: "redis://u:canary@"}, `URL "redis://…@": each host must be a name`},
		{redisdir.Config{URL: "redis://"}, `URL "redis://": each host must be a name`},
		{redisdir.Config{URL: "redis:///0"}, `URL "redis:///0": each host must be a name`},
		{redisdir.Config{URL: "redis://h:"}, `URL "redis://h:": each host must be a name`},
		{redisdir.Config{URL: "redis://h:0"}, `URL "redis://h:0": each host must be a name`},
		{redisdir.Config{URL: "redis://h:65536"}, `URL "redis://h:65536": each host must be a name`},
		{redisdir.Config{URL: "redis://h:x"}, `URL "redis://h:x": each host must be a name`},
		{redisdir.Config{URL: "redis://::1"}, `URL "redis://::1": each host must be a name`},
		{redisdir.Config{URL: "redis://a,b"}, `URL "redis://a,b": it can have one host only`},
		{redisdir.Config{URL: "redis+cluster://a,,b"}, `URL "redis+cluster://a,,b": each host must be a name`},
		{redisdir.Config{URL: "redis+cluster://a/1"}, `URL "redis+cluster://a/1": it must have no path`},
		{redisdir.Config{URL: "redis+sentinel://a"}, `URL "redis+sentinel://a": its path must have the name of the master`},
		{redisdir.Config{URL: "redis+sentinel://a/m/x"}, `URL "redis+sentinel://a/m/x": its database must be a number`},
		{redisdir.Config{URL: "redis://h/x"}, `URL "redis://h/x": its database must be a number`},
		{redisdir.Config{URL: "redis://h/-1"}, `URL "redis://h/-1": its database must be a number`},
		{redisdir.Config{URL: "redis://h/1/2"}, `URL "redis://h/1/2": its database must be a number`},
		{redisdir.Config{URL: "redis://h?password=canary"}, `URL "redis://h?…": it must have no query`},
		{redisdir.Config{URL: "redis://:can#canary@h"}, `URL "redis://…@h": it must have no fragment: escape # as %23`},
		{redisdir.Config{URL: "unix://run/redis.sock"}, `URL "unix://run/redis.sock": it must have three slashes and a path`},
		{redisdir.Config{URL: "unix:///run/redis.sock?password=canary"}, `URL "unix:///run/redis.sock?…": its query can have db only`},
		{redisdir.Config{URL: "redis://u:canary@h", User: "u", Password: "canary"}, "User is in the URL too: give it once\nredisdir: Password is in the URL too: give it once"},
		{redisdir.Config{URL: "redis://u@h"}, `Password is required with a user`},
		{redisdir.Config{URL: "redis://h", SentinelPassword: "canary"}, `SentinelPassword needs a URL with redis+sentinel`},
		{redisdir.Config{URL: "redis+sentinel://h/m", SentinelUser: "u"}, `SentinelPassword is required with a user`},
		{redisdir.Config{URL: "redis://h", TLS: new(tls.Config)}, `TLS needs a URL with rediss`},
		{redisdir.Config{URL: "redis://h", KeyPrefix: "a b"}, `KeyPrefix "a b": it may have letters, digits`},
		{redisdir.Config{URL: "redis://h", KeyPrefix: "{a}"}, `KeyPrefix "{a}": it may have letters, digits`},
		{redisdir.Config{URL: "redis://h", KeyPrefix: strings.Repeat("a", 65)}, `KeyPrefix "aaa`},
		{redisdir.Config{URL: "redis://h", DialTimeout: -time.Second}, `DialTimeout "-1s": it must be positive`},
	} {
		err := c.cfg.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), "redisdir: "+c.want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("got  %v\nwant redisdir: %s", err, c.want)
		}
		if _, again := redisdir.New(c.cfg); again == nil || err != nil && again.Error() != err.Error() {
			t.Errorf("New: %v; Validate: %v", again, err)
		}
	}
	good := redisdir.Config{URL: "rediss://h", User: "u", Password: "p", TLS: new(tls.Config), KeyPrefix: "a:B.1_-", DialTimeout: time.Minute}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}
