// Command sbom writes the bill of materials of a Go program: which modules, at
// which versions, it was built from, as the toolchain has recorded them in the
// binary itself.
//
//	sbom [-time RFC3339] FILE
//
// The form is CycloneDX 1.6, JSON, on standard output. The same binary and time
// always give the same bytes.
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
)

func main() {
	at := flag.String("time", "", "`time` of the build, RFC 3339; none if empty")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: sbom [-time RFC3339] FILE")
		os.Exit(2)
	}
	if err := run(os.Stdout, flag.Arg(0), *at); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, file, at string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(describe(filepath.Base(file), sha256.Sum256(b), info, at))
}

// Names and order of the fields are CycloneDX's
// (https://cyclonedx.org/docs/1.6/json/).
type (
	bom struct {
		Format       string       `json:"bomFormat"`
		SpecVersion  string       `json:"specVersion"`
		Serial       string       `json:"serialNumber"`
		Version      int          `json:"version"`
		Metadata     metadata     `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	metadata struct {
		Timestamp string    `json:"timestamp,omitempty"`
		Component component `json:"component"`
	}
	component struct {
		Ref        string     `json:"bom-ref"`
		Type       string     `json:"type"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		Hashes     []hash     `json:"hashes,omitempty"`
		PURL       string     `json:"purl"`
		Properties []property `json:"properties,omitempty"`
	}
	hash struct {
		Alg     string `json:"alg"`
		Content string `json:"content"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	dependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn,omitempty"`
	}
)

// describe makes the bill of the binary called name, with that SHA-256.
func describe(name string, sum [sha256.Size]byte, info *buildinfo.BuildInfo, at string) bom {
	main := module("application", &info.Main)
	main.Hashes = []hash{{"SHA-256", hex.EncodeToString(sum[:])}}
	main.Properties = append(main.Properties, property{"go:binary", name}, property{"go:package", info.Path})
	for _, s := range info.Settings {
		switch s.Key {
		case "-tags", "-trimpath", "CGO_ENABLED", "GOOS", "GOARCH", "GOAMD64", "GOARM64":
			main.Properties = append(main.Properties, property{"go:build:" + s.Key, s.Value})
		}
	}
	// A UUID (RFC 9562, version 8) made of the binary's hash.
	u := sum
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	b := bom{
		Format: "CycloneDX", SpecVersion: "1.6", Version: 1,
		Serial:   fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:16]),
		Metadata: metadata{at, main},
		Components: []component{{
			Ref: "pkg:golang/std@" + info.GoVersion, Type: "library", Name: "std", Version: info.GoVersion,
			PURL: "pkg:golang/std@" + url.PathEscape(strings.TrimPrefix(info.GoVersion, "go")),
		}},
	}
	all := dependency{Ref: main.Ref, DependsOn: []string{b.Components[0].Ref}}
	b.Dependencies = []dependency{{Ref: b.Components[0].Ref}}
	for _, m := range info.Deps {
		c := module("library", m)
		b.Components = append(b.Components, c)
		b.Dependencies = append(b.Dependencies, dependency{Ref: c.Ref})
		all.DependsOn = append(all.DependsOn, c.Ref)
	}
	// Which of them needs which is not recorded: the program has them all.
	b.Dependencies = append(b.Dependencies, all)
	return b
}

func module(kind string, m *debug.Module) component {
	if m.Replace != nil {
		m = m.Replace
	}
	purl := "pkg:golang/" + m.Path + "@" + url.PathEscape(m.Version)
	c := component{Ref: purl, Type: kind, Name: m.Path, Version: m.Version, PURL: purl}
	if m.Sum != "" {
		// As in go.sum: the hash of a listing of the module's files.
		c.Properties = []property{{"go:sum", m.Sum}}
	}
	return c
}
