package main

import (
	"testing"

	"github.com/websocktunnel/websocktunnel/cmd/internal/scripttest"
)

func TestMain(m *testing.M) { scripttest.Main(m, "websocktunnel", run, "../wst-client") }

func TestScript(t *testing.T) { scripttest.Run(t) }
