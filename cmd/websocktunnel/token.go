package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/websocktunnel/websocktunnel/server"
)

// secretNames are the variables with the secrets, in the order of their use.
var secretNames = [...]string{"TASKCLUSTER_PROXY_SECRET_A", "TASKCLUSTER_PROXY_SECRET_B"}

func tokenCommand() *cli.Command {
	return &cli.Command{
		Name:      "token",
		Usage:     "print a token that lets a tunnel client register an id",
		UsageText: "websocktunnel token --id ID [--ttl 24h] [--audience A] [--secret-file F]",
		Description: "The secret that signs the token is the first of: the file of --secret-file,\n" +
			"TASKCLUSTER_PROXY_SECRET_A, TASKCLUSTER_PROXY_SECRET_B. Both variables also\n" +
			"work with _FILE after their names. Anyone who has the token can serve under\n" +
			"the id until the token expires.\n" +
			"\n" +
			"Example:\n" +
			"   (umask 077; websocktunnel token --id my-app --secret-file secret > token)",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "id", Usage: "Client `id` that the token is for. Required."},
			&cli.StringFlag{Name: "ttl", Usage: "Lifetime of the token: a `time` such as 90m or 24h, at most 744h (31 days).", Value: "24h", DefaultText: "24h"},
			&cli.StringFlag{Name: "audience", Usage: "`Value` of the aud claim, for a service with AUDIENCE set.",
				Sources: cli.NewValueSourceChain(environment("AUDIENCE"))},
			&cli.StringFlag{Name: "secret-file", Usage: "`File` with the secret.", TakesFile: true},
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
	s := newSettings(environmentLookup)
	secret := s.signingSecret(cmd)
	claims := server.Claims{ID: cmd.String("id"), Audience: strings.TrimSpace(cmd.String("audience"))}
	if !cmd.IsSet("audience") {
		claims.Audience = s.text("AUDIENCE") // as the service reads it
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
