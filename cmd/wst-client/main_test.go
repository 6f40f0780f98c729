package main

import (
	"testing"

	"github.com/websocktunnel/websocktunnel/cmd/internal/scripttest"
)

func TestMain(m *testing.M) { scripttest.Main(m, "wst-client", run, "../websocktunnel") }

func TestScript(t *testing.T) { scripttest.Run(t) }
