package tunneltest

import (
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/server"
)

// Secret signs the tokens of a [Service] that has no other.
var Secret = []byte("a secret of at least thirty-two bytes")

// Token returns a token for id, signed with [Secret] and valid for an hour.
func Token(t testing.TB, id string) string {
	t.Helper()
	return mint(t, Secret, id)
}

func mint(t testing.TB, secret []byte, id string) string {
	t.Helper()
	token, err := server.MintToken(secret, server.Claims{ID: id, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return token
}
