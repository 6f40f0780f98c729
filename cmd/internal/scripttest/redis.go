package scripttest

import (
	"crypto/tls"

	"github.com/alicebob/miniredis/v2"
	"github.com/rogpeppe/go-internal/testscript"
)

// stores is the key of the script's stores, by the variable with their address.
type stores struct{}

// cmdRedis starts, stops or restarts a store in memory.
func cmdRedis(ts *testscript.TestScript, neg bool, args []string) {
	running := ts.Value(stores{}).(map[string]*miniredis.Miniredis)
	const usage = "redis [-password PASSWORD] [-tls CERT] VAR | redis stop|restart VAR"
	if len(args) == 2 && (args[0] == "stop" || args[0] == "restart") {
		store, ok := running[args[1]]
		must(ts, ok, neg, usage)
		if args[0] == "stop" {
			store.Close()
		} else {
			ts.Check(store.Restart())
		}
		return
	}
	store, cert := miniredis.NewMiniRedis(), ""
	for len(args) > 2 {
		switch args[0] {
		case "-password":
			store.RequireAuth(args[1])
		case "-tls":
			cert = args[1]
		default:
			must(ts, false, neg, usage)
		}
		args = args[2:]
	}
	must(ts, len(args) == 1, neg, usage)
	if cert == "" {
		ts.Check(store.Start())
	} else {
		pair, err := tls.LoadX509KeyPair(ts.MkAbs(cert+".pem"), ts.MkAbs(cert+".key"))
		ts.Check(err)
		ts.Check(store.StartTLS(&tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}))
	}
	ts.Defer(store.Close)
	ts.Setenv(args[0], store.Addr())
	running[args[0]] = store
}
