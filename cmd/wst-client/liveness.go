package main

import (
	"strconv"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
)

// Limits of --ping-interval and --ping-timeout. More frequent pings would burden
// the service, which has many tunnels. Rarer ones would notice a lost service
// later than the network's own timeouts do.
const (
	minPing         = time.Second
	maxPingInterval = 10 * time.Minute
	maxPingTimeout  = time.Minute
)

// duration returns the value of a flag that is a time from low to high, or
// zero if the flag is not given.
func duration(cmd *cli.Command, flag string, low, high time.Duration, faults *cliapp.Faults) time.Duration {
	if !cmd.IsSet(flag) {
		return 0
	}
	value := cmd.String(flag)
	d, err := time.ParseDuration(value)
	if seconds, e := strconv.ParseUint(value, 10, 16); e == nil {
		d, err = time.Duration(seconds)*time.Second, nil
	}
	switch {
	case err != nil:
		faults.Add("--%s %q: it must be a time such as 15s or 2m, or a number of seconds", flag, value)
	case d < low || d > high:
		faults.Add("--%s %q: it must be from %v to %v seconds", flag, value, low.Seconds(), high.Seconds())
	}
	return d
}
