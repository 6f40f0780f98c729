package redisdir_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/cluster/redisdir"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
)

// all calls every method, and returns the first error.
func all(ctx context.Context, d *redisdir.Directory) error {
	n := cluster.Node{Name: "n", Boot: "b"}
	_, err := d.Put(ctx, []cluster.Entry{anEntry})
	_, again := d.Put(ctx, []cluster.Entry{anEntry})
	_, got := d.Get(ctx, anEntry.ID)
	_, beat := d.Beat(ctx, n)
	_, nodes := d.Nodes(ctx)
	return errors.Join(err, again, got, beat, nodes, d.Leave(ctx, n), d.Delete(ctx, []cluster.Entry{anEntry}), d.Ping(ctx))
}

// documented returns the words of the command in the package's documentation that
// makes a user.
func documented(t *testing.T) []string {
	t.Helper()
	f, err := os.Open("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var words []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.TrimPrefix(lines.Text(), "//")
		if strings.Contains(line, "ACL SETUSER") || len(words) > 0 && strings.HasPrefix(line, "\t") {
			words = append(words, strings.Fields(line)...)
		} else if len(words) > 0 {
			return words
		}
	}
	t.Fatal("the documentation has no ACL SETUSER")
	return nil
}

// TestRights: the documented rights are enough, and Ping finds out where one is
// missing.
func TestRights(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"redis-server", "valkey-server"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rights(t, name)
		})
	}
}

// TestRightsInGuide: operators read of the same rights.
func TestRightsInGuide(t *testing.T) {
	text, err := os.ReadFile("../../docs/cluster.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Join(documented(t), " "); !strings.Contains(strings.Join(strings.Fields(string(text)), " "), want) {
		t.Errorf("docs/cluster.md has not: %s", want)
	}
}

// noRight matches what servers say of commands that a user may not use.
var noRight = regexp.MustCompile(`(?i)can't|no permissions|NOPERM`)

func rights(t *testing.T, name string) {
	s := start(t, program(t, name), keepNothing...)
	make := documented(t)
	s.must(t, make...)
	cfg := redisdir.Config{URL: "redis://websocktunnel:password@" + s.addr}
	if err := all(t.Context(), open(t, cfg)); err != nil {
		t.Errorf("with the documented rights: %v", err)
	}
	other := cfg
	other.KeyPrefix = "other:"
	if err := open(t, other).Ping(t.Context()); err == nil {
		t.Error("with another prefix: no error")
	}
	for _, word := range make {
		switch word {
		// Without those there is no connection, or all is well nevertheless: a server
		// that is no shard needs no rights of shards.
		case "+hello", "+auth", "+ping", "+select", "+role", "+cluster|slots", "+cluster|shards", "+asking", "+unsubscribe":
			continue
		}
		if word[0] != '+' && word[0] != '&' {
			continue
		}
		take := "-" + word[1:]
		if word[0] == '&' {
			take = "resetchannels"
		}
		s.must(t, "ACL", "SETUSER", "websocktunnel", take)
		if err := open(t, cfg).Ping(t.Context()); err == nil || !noRight.MatchString(err.Error()) {
			t.Errorf("without %s: %v", word, err)
		}
		s.must(t, make...)
	}
	if err := all(t.Context(), open(t, cfg)); err != nil {
		t.Errorf("with the documented rights again: %v", err)
	}
}

// TestTransports: TLS, and a socket in the file system.
func TestTransports(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert, key := tunneltest.PEM(tunneltest.NewCertificate("localhost"))
	for name, data := range map[string][]byte{"cert": cert, "key": key} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(dir, "redis.sock")
	s := start(t, program(t, "redis-server"), append(keepNothing,
		"--tls-port", "%bus", "--tls-cert-file", filepath.Join(dir, "cert"), "--tls-key-file", filepath.Join(dir, "key"),
		"--tls-auth-clients", "no", "--unixsocket", socket, "--requirepass", "pa/ss")...)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	trusted := &tls.Config{RootCAs: pool, ServerName: "localhost"}
	for url, config := range map[string]*tls.Config{
		"redis://:pa%2Fss@" + s.addr + "/3":                  trusted,
		"rediss://default:pa%2Fss@127.0.0.1:" + s.bus + "/3": trusted,
		"unix://:pa%2Fss@" + socket + "?db=3":                nil,
	} {
		if !strings.HasPrefix(url, "rediss") {
			config = nil
		}
		d := open(t, redisdir.Config{URL: url, TLS: config})
		if err := all(t.Context(), d); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	for url, want := range map[string]string{
		"rediss://:pa%2Fss@127.0.0.1:" + s.bus: "certificate",
		"redis://:pa%2Fss@127.0.0.1:" + s.bus:  "",
		"redis://" + s.addr:                    "NOAUTH",
	} {
		err := open(t, redisdir.Config{URL: url}).Ping(withTimeout(t, patience))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "pa/ss") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// TestKinds: a URL of the wrong kind is found out, with what to do.
func TestKinds(t *testing.T) {
	t.Parallel()
	path := program(t, "redis-server")
	alone := start(t, path, keepNothing...)
	shard := startShards(t, path, 1)[0]
	for url, want := range map[string]string{
		"redis+cluster://" + alone.addr:         "not part of a Redis Cluster",
		"redis+sentinel://" + alone.addr + "/m": "SENTINEL",
	} {
		if err := open(t, redisdir.Config{URL: url}).Ping(withTimeout(t, patience)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", url, err)
		}
	}
	shard.must(t, documented(t)...)
	for _, user := range []string{"", "websocktunnel:password@"} {
		if err := all(t.Context(), open(t, redisdir.Config{URL: "redis+cluster://" + user + shard.addr})); err != nil {
			t.Error(err)
		}
	}
	// One that has all slots serves a plain client as well. This one gives half of
	// them away.
	shard.must(t, "CLUSTER", "DELSLOTSRANGE", "0", "8000")
	if err := open(t, redisdir.Config{URL: "redis://" + shard.addr}).Ping(t.Context()); err == nil {
		t.Error("half of the slots are missing, and Ping finds nothing")
	}
}
