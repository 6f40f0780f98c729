package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/websocktunnel/websocktunnel/server"
)

// secretNames are the variables with the secrets, in the order in which they
// are looked at.
var secretNames = [...]string{"TASKCLUSTER_PROXY_SECRET_A", "TASKCLUSTER_PROXY_SECRET_B"}

func tokenCommand() *cli.Command {
	return &cli.Command{
		Name:      "token",
		Usage:     "print a token with which a tunnel client may register an id",
		UsageText: "websocktunnel token --id ID [--ttl 24h] [--audience A] [--secret-file F]",
		Description: "The token is signed with the secret in the file that --secret-file names, or else with\n" +
			"TASKCLUSTER_PROXY_SECRET_A, or else with TASKCLUSTER_PROXY_SECRET_B (or their _FILE twins).\n" +
			"Whoever has it can serve under the id until it expires.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "id", Usage: "client `id` that the token is for (required)"},
			&cli.StringFlag{Name: "ttl", Usage: "how long the token is good, a `time` such as 90m or 24h, at most 744h (31 days)", Value: "24h", HideDefault: true, DefaultText: "24h"},
			&cli.StringFlag{Name: "audience", Usage: "`value` of the claim aud, for a service that has AUDIENCE set",
				Sources: cli.NewValueSourceChain(environment("AUDIENCE"))},
			&cli.StringFlag{Name: "secret-file", Usage: "`file` with the secret", TakesFile: true},
		},
		Action: func(_ context.Context, cmd *cli.Command) error {
			if err := noArguments(cmd); err != nil {
				return err
			}
			token, err := mintToken(cmd)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.Writer, token)
			return err
		},
	}
}

// mintToken makes the token that cmd's flags ask for. The error has one line
// per fault.
func mintToken(cmd *cli.Command) (string, error) {
	s := newSettings(func(name string) (string, bool) { return os.Getenv(name), false })
	secret := s.signingSecret(cmd)
	claims := server.Claims{ID: cmd.String("id"), Audience: cmd.String("audience")}
	if !cmd.IsSet("audience") {
		claims.Audience = os.Getenv("AUDIENCE")
	}
	if claims.ID == "" {
		s.fault("--id", "is required: the client id that the token is for")
	}
	ttl, err := time.ParseDuration(cmd.String("ttl"))
	if err != nil {
		s.fault("--ttl", "%q: it must be a time such as 90m or 24h; a month is 744h", cmd.String("ttl"))
	}
	claims.TTL = ttl
	token, err := server.MintToken([]byte(secret), claims)
	s.configFaults(err, map[string]string{
		"Claims.ID":       "--id",
		"Claims.TTL":      "--ttl",
		"Claims.Audience": "--audience",
		"secret":          "", // signingSecret has noted why there is none
	})
	return token, s.faults.Err()
}

// signingSecret returns the secret to sign with.
func (s *settings) signingSecret(cmd *cli.Command) string {
	if file := cmd.String("secret-file"); file != "" {
		secret, err := readSecret(file)
		if err != nil {
			s.faults.Add("--secret-file %v", err)
		}
		return secret
	}
	for _, name := range secretNames {
		if s.isSet(name) {
			return s.secret(name)
		}
	}
	s.faults.Add("no secret: set %s, or name a file with --secret-file", strings.Join(secretNames[:], " or "))
	return ""
}
