package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
	"github.com/websocktunnel/websocktunnel/internal/admin"
)

// operateTimeout bounds one request to the admin listener.
const operateTimeout = 30 * time.Second

// adminCommand is for operators. It speaks to the admin listener of a service.
func adminCommand() *cli.Command {
	sub := func(name, usage, argument string, action func(*operator, context.Context, *cli.Command) error, flags ...cli.Flag) *cli.Command {
		text := "websocktunnel admin " + name
		if argument != "" {
			text += " " + argument
		}
		return &cli.Command{
			Name: name, Usage: usage, UsageText: text + " [flags]", Flags: flags,
			Action: func(ctx context.Context, cmd *cli.Command) error {
				if want := len(strings.Fields(argument)); cmd.Args().Len() != want {
					if want == 0 {
						return noArguments(cmd)
					}
					return cliapp.NewUsageError("admin %s: which tunnel? Give one client id, for example \"websocktunnel admin %s build-42\"", name, name)
				}
				o, err := newOperator(cmd)
				if err != nil {
					return err
				}
				ctx, cancel := context.WithTimeout(ctx, operateTimeout)
				defer cancel()
				return action(o, ctx, cmd)
			},
		}
	}
	return &cli.Command{
		Name:  "admin",
		Usage: "see and change what a running service does",
		UsageText: "websocktunnel admin tunnels [--search TEXT] [--state STATE] [--sort FIELD]\n" +
			"websocktunnel admin show|evict|unblock ID\n" +
			"websocktunnel admin evicted|nodes|reload|drain",
		Description: "Speaks to the service's admin listener, at ADMIN_ADDR with ADMIN_TOKEN.\n" +
			"An id that begins with a dash goes behind \"--\".",
		Flags: operatorFlags(),
		Commands: []*cli.Command{
			sub("tunnels", "list the tunnels that take requests, and those that have just gone", "", (*operator).tunnels,
				&cli.StringFlag{Name: "search", Usage: "only tunnels with this `text` in their id or address", Local: true},
				&cli.StringFlag{Name: "state", Usage: "only tunnels in this `state`: connected, or gone (within the last ten minutes)", DefaultText: "both", Local: true},
				&cli.StringFlag{Name: "sort", Usage: "`field` of --json to sort by; with - before it, the other way round (--sort=-reconnects)", Value: "id", Local: true},
				&cli.IntFlag{Name: "limit", Usage: "highest `number` of tunnels to list", DefaultText: "all", Local: true},
			),
			sub("show", "show one tunnel, its sessions and why its last requests failed", "ID", (*operator).show),
			sub("evict", "end a tunnel at once and block its token", "ID", (*operator).evict),
			sub("unblock", "let the token of an evicted tunnel in again", "ID", (*operator).unblock),
			sub("evicted", "list the ids whose tokens are blocked", "", (*operator).evicted),
			sub("nodes", "list the nodes of the cluster", "", (*operator).nodes),
			sub("reload", "read the configuration file and the files of secrets and certificates again", "", (*operator).reload),
			sub("drain", "shut the service down without losing a request", "", (*operator).drain),
		},
		Action: func(_ context.Context, cmd *cli.Command) error {
			if cmd.Args().Present() {
				return cliapp.NewUsageError("admin: %q is no command; it must be tunnels, show, evict, unblock, evicted, nodes, reload or drain", cmd.Args().First())
			}
			return cliapp.NewUsageError("admin: what to do? Name tunnels, show, evict, unblock, evicted, nodes, reload or drain; see %s --help", cmd.FullName())
		},
	}
}

// operatorFlags are those of all commands for operators, before their names and after.
func operatorFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "admin-addr", Usage: "`host:port` of the admin listener, or its URL", Sources: cli.NewValueSourceChain(environment("ADMIN_ADDR"))},
		&cli.StringFlag{Name: "admin-token", Usage: "its `token`. The flag is visible in ps", Sources: cli.NewValueSourceChain(environment("ADMIN_TOKEN"))},
		&cli.StringFlag{Name: "admin-token-file", Usage: "`file` with the token", Sources: cli.NewValueSourceChain(environment("ADMIN_TOKEN_FILE")), TakesFile: true},
		&cli.StringFlag{Name: "node", Usage: "`name` of the node of the cluster to ask", DefaultText: "the one at --admin-addr"},
		&cli.BoolFlag{Name: "json", Usage: "print the answer of the API, as JSON"},
	}
}

// operator asks one admin listener.
type operator struct {
	base  string // URL without a slash at the end
	token string
	json  bool
	node  string // empty: the one that has the listener
	out   io.Writer
}

// newOperator reads where to ask, and how.
func newOperator(cmd *cli.Command) (*operator, error) {
	s := newSettings(lookupIn(cmd, nil))
	o := &operator{token: s.secret("ADMIN_TOKEN"), json: cmd.Bool("json"), node: cmd.String("node"), out: cmd.Root().Writer}
	addr := s.text("ADMIN_ADDR")
	switch u, err := url.Parse(addr); {
	case addr == "":
		s.fault("ADMIN_ADDR", "is required: the address of the service's admin listener, such as 127.0.0.1:9090")
	case strings.Contains(addr, "://"):
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			s.fault("ADMIN_ADDR", "it must be host:port, or an http or https URL without a query")
		}
		o.base = strings.TrimSuffix(addr, "/")
	default:
		host, port, err := net.SplitHostPort(addr)
		if err != nil || port == "" {
			s.fault("ADMIN_ADDR", "%q: it must be host:port, such as 127.0.0.1:9090", addr)
			break
		}
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "localhost" // the service listens on all addresses
		}
		o.base = "http://" + net.JoinHostPort(host, port)
	}
	return o, s.faults.Err()
}

// ask sends a request and reads its answer into v. With --json it prints it.
func (o *operator) ask(ctx context.Context, method, path string, v any) error {
	req, err := http.NewRequestWithContext(ctx, method, o.base+path, nil)
	if err != nil {
		return err
	}
	if o.node != "" {
		q := req.URL.Query()
		q.Set("node", o.node)
		req.URL.RawQuery = q.Encode()
	}
	if method != http.MethodGet {
		req.Header.Set(admin.HeaderChange, "1")
	}
	if o.token != "" {
		req.Header.Set("Authorization", "Bearer "+o.token)
	}
	client := http.Client{
		Transport:     &http.Transport{Proxy: nil, DisableKeepAlives: true}, // the token is for the listener alone
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return fmt.Errorf("the admin listener at %s cannot be asked: %w", o.base, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("the admin listener at %s broke off: %w", o.base, err)
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		var p admin.Problem
		if json.Unmarshal(body, &p) != nil || p.Detail == "" {
			return fmt.Errorf("%s answered %s: is it the address of an admin listener?", o.base, resp.Status)
		}
		hint := ""
		if resp.StatusCode == http.StatusUnauthorized {
			hint = "; set ADMIN_TOKEN or ADMIN_TOKEN_FILE"
		}
		for _, fault := range p.Faults {
			hint += "\n" + fault
		}
		return fmt.Errorf("%s (%d)%s", p.Detail, p.Status, hint)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%s did not answer as an admin listener does: %w", o.base, err)
	}
	return nil
}

// printJSON prints v.
func (o *operator) printJSON(v any) error {
	e := json.NewEncoder(o.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// table prints rows in columns, the first as a heading.
func (o *operator) table(rows [][]string) error {
	w := tabwriter.NewWriter(o.out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// listPage is how many tunnels are asked for at a time.
const listPage = 1000

func (o *operator) tunnels(ctx context.Context, cmd *cli.Command) error {
	most := cmd.Int("limit")
	if cmd.IsSet("limit") && most < 1 {
		return cliapp.NewUsageError("flag --limit %d: it must be 1 or more", most)
	}
	all := admin.TunnelList{Tunnels: []admin.Tunnel{}}
	for {
		page := listPage
		if most > 0 {
			page = min(page, most-len(all.Tunnels))
		}
		q := url.Values{"offset": {fmt.Sprint(len(all.Tunnels))}, "limit": {fmt.Sprint(page)}, "sort": {cmd.String("sort")}, "state": {cmd.String("state")}, "search": {cmd.String("search")}}
		var next admin.TunnelList
		if err := o.ask(ctx, http.MethodGet, "/api/v1/tunnels?"+q.Encode(), &next); err != nil {
			return err
		}
		all.Tunnels = append(all.Tunnels, next.Tunnels...)
		all.Total = next.Total
		if len(next.Tunnels) == 0 || len(all.Tunnels) >= next.Total || len(all.Tunnels) == most {
			break
		}
	}
	all.Limit = len(all.Tunnels)
	if o.json {
		return o.printJSON(all)
	}
	rows := [][]string{{"ID", "STATE", "ADDRESS", "CONNECTED", "TOKEN", "IN FLIGHT", "RECEIVED", "SENT", "PING", "FAILED", "RECONNECTS", "REPLACED"}}
	for _, t := range all.Tunnels {
		rows = append(rows, []string{
			t.ID, condition(t), t.RemoteAddr, since(t.ConnectedAt), left(t.TokenExpiresAt), fmt.Sprint(t.InFlight),
			size(t.ReceivedBytes), size(t.SentBytes), ping(t.RoundTripSeconds), fmt.Sprint(t.FailedRequests), fmt.Sprint(t.Reconnects), fmt.Sprint(t.Replacements),
		})
	}
	if err := o.table(rows); err != nil {
		return err
	}
	if n := len(all.Tunnels); n < all.Total {
		fmt.Fprintf(os.Stderr, "%d more\n", all.Total-n)
	}
	return nil
}

func (o *operator) show(ctx context.Context, cmd *cli.Command) error {
	var d admin.TunnelDetail
	if err := o.ask(ctx, http.MethodGet, tunnelPath(cmd), &d); err != nil {
		return err
	}
	if o.json {
		return o.printJSON(d)
	}
	rows := [][]string{{"id", d.ID}}
	if d.Node != "" {
		rows = append(rows, []string{"node", d.Node})
	}
	t := d.Active
	if t == nil {
		t = d.Gone
	}
	if t == nil {
		rows = append(rows, []string{"state", "it takes no requests"})
	} else {
		rows = append(rows,
			[]string{"state", condition(*t)},
			[]string{"address", t.RemoteAddr},
			[]string{"connected", since(t.ConnectedAt) + " ago, at " + t.ConnectedAt.UTC().Format(time.RFC3339)},
			[]string{"token", left(t.TokenExpiresAt) + " left, until " + t.TokenExpiresAt.UTC().Format(time.RFC3339)},
			[]string{"websockets", fmt.Sprint(t.Connections)},
			[]string{"in flight", fmt.Sprint(t.InFlight)},
			[]string{"received", size(t.ReceivedBytes)},
			[]string{"sent", size(t.SentBytes)},
			[]string{"last ping", ping(t.RoundTripSeconds)},
			[]string{"failed", fmt.Sprint(t.FailedRequests)},
			[]string{"reconnects", fmt.Sprintf("%d in 10m", t.Reconnects)},
			[]string{"last end", lastEnd(*t)},
			[]string{"replaced", strings.TrimSpace(fmt.Sprintf("%d times %s", t.Replacements, t.ReplacedAddr))},
			[]string{"upgrades", map[bool]string{true: "extended CONNECT", false: "in the fallback form"}[t.ExtendedConnect]},
		)
	}
	if d.Blocked {
		rows = append(rows, []string{"blocked", "its token, until it expires or is unblocked"})
	}
	if err := o.table(rows); err != nil {
		return err
	}
	rows = [][]string{{"\nSESSION", "STATE", "CONNECTED", "IN FLIGHT"}}
	for _, s := range d.Sessions {
		rows = append(rows, []string{s.RemoteAddr, s.State, since(s.ConnectedAt), fmt.Sprint(s.InFlight)})
	}
	if len(d.Sessions) > 0 {
		if err := o.table(rows); err != nil {
			return err
		}
	}
	if len(d.Failures) == 0 {
		return nil
	}
	rows = [][]string{{"\nFAILED", "STATUS", "BECAUSE OF", "ERROR", "CODE", "REQUEST"}}
	for _, f := range d.Failures {
		rows = append(rows, []string{since(f.Time) + " ago", fmt.Sprint(f.Status), f.Hop, f.Error, f.ErrorCode, f.RequestID})
	}
	return o.table(rows)
}

func (o *operator) evict(ctx context.Context, cmd *cli.Command) error {
	return o.change(ctx, tunnelPath(cmd)+"/evict")
}

func (o *operator) unblock(ctx context.Context, cmd *cli.Command) error {
	return o.change(ctx, tunnelPath(cmd)+"/unblock")
}

func (o *operator) evicted(ctx context.Context, _ *cli.Command) error {
	var list admin.Evicted
	if err := o.ask(ctx, http.MethodGet, "/api/v1/evicted", &list); err != nil {
		return err
	}
	if o.json {
		return o.printJSON(list)
	}
	for _, id := range list.IDs {
		fmt.Fprintln(o.out, id)
	}
	return nil
}

func (o *operator) nodes(ctx context.Context, _ *cli.Command) error {
	var list admin.NodeList
	if err := o.ask(ctx, http.MethodGet, "/api/v1/nodes", &list); err != nil {
		return err
	}
	if o.json {
		return o.printJSON(list)
	}
	if len(list.Nodes) == 0 {
		fmt.Fprintln(o.out, "the service is alone: it has no CLUSTER_REDIS")
		return nil
	}
	rows := [][]string{{"NODE", "STATE", "ADDRESS", "VERSION", "TUNNELS", "IN FLIGHT", "PING", "FAULT"}}
	for _, n := range list.Nodes {
		name := n.Name
		if n.Self {
			name += " (asked)"
		}
		rows = append(rows, []string{name, n.State, n.Addr, n.Version, fmt.Sprint(n.Tunnels), fmt.Sprint(n.InFlight), ping(n.RoundTripSeconds), n.Fault})
	}
	if err := o.table(rows); err != nil {
		return err
	}
	fmt.Fprintf(o.out, "directory: %s, %s\n", word(list.Reachable, "answers", "does not answer"), word(list.Whole, "whole", "may not have all ids"))
	return nil
}

func word(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}

func (o *operator) drain(ctx context.Context, _ *cli.Command) error {
	return o.change(ctx, "/api/v1/drain")
}

func (o *operator) reload(ctx context.Context, _ *cli.Command) error {
	var done admin.Reloaded
	if err := o.ask(ctx, http.MethodPost, "/api/v1/reload", &done); err != nil {
		return err
	}
	if o.json {
		return o.printJSON(done)
	}
	list := func(names []string) string {
		if len(names) == 0 {
			return "nothing"
		}
		return strings.Join(names, ", ")
	}
	_, err := fmt.Fprintf(o.out, "changed: %s\nneeds a restart: %s\n", list(done.Changed), list(done.Restart))
	return err
}

// change asks for a change and says what it has changed.
func (o *operator) change(ctx context.Context, path string) error {
	var d admin.Done
	if err := o.ask(ctx, http.MethodPost, path, &d); err != nil {
		return err
	}
	if o.json {
		return o.printJSON(d)
	}
	_, err := fmt.Fprintln(o.out, strings.TrimSpace(d.ID+" "+d.Done))
	return err
}

// tunnelPath returns the path of the tunnel that cmd names.
func tunnelPath(cmd *cli.Command) string {
	return "/api/v1/tunnels/" + url.PathEscape(cmd.Args().First())
}

// condition returns the state of a tunnel, and of one that has gone since when and why.
func condition(t admin.Tunnel) string {
	if t.State == "gone" && t.LastEndAt != nil {
		return "gone " + since(*t.LastEndAt) + ": " + t.LastEndReason
	}
	return t.State
}

// lastEnd returns when and why the last session of t ended that has.
func lastEnd(t admin.Tunnel) string {
	if t.LastEndAt == nil {
		return "-"
	}
	return since(*t.LastEndAt) + " ago: " + t.LastEndReason
}

// since returns how long ago t was.
func since(t time.Time) string { return short(time.Since(t)) }

// left returns how long it is until t.
func left(t time.Time) string {
	if d := time.Until(t); d > 0 {
		return short(d)
	}
	return "none"
}

// short returns d in its largest unit.
func short(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(max(d, 0).Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// size returns bytes in the largest unit.
func size(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, units := float64(n)/1024, []string{"KiB", "MiB", "GiB", "TiB"}
	for f >= 1024 && len(units) > 1 {
		f, units = f/1024, units[1:]
	}
	return fmt.Sprintf("%.1f %s", f, units[0])
}

// ping returns a round trip, or - if there was none.
func ping(seconds float64) string {
	if seconds == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", seconds*1000)
}
