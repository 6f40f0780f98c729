package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestConfigFile(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       map[string]string
		fault      string // the whole of the only one, without the path
	}{
		{"nothing", "", nil, ""},
		{"a comment", "# PORT: 80\n", nil, ""},
		{"an empty document", "---\n", nil, ""},
		{"text as it stands", "PORT: 0080\nH2C: off\nDRAIN_TIMEOUT: 90s\nAUDIENCE: 'a b' # c\nURL_PREFIX: https://tunnel.example.com/x\n",
			map[string]string{"PORT": "0080", "H2C": "off", "DRAIN_TIMEOUT": "90s", "AUDIENCE": "a b", "URL_PREFIX": "https://tunnel.example.com/x"}, ""},
		{"JSON", `{"PORT": 80, "H2C": true}`, map[string]string{"PORT": "80", "H2C": "true"}, ""},
		{"CRLF and a byte order mark", "\ufeffPORT: 80\r\nH2C: on\r\n", map[string]string{"PORT": "80", "H2C": "on"}, ""},
		{"lists", "TRUSTED_PROXIES: [10.0.0.0/8, '::1']\nADMIN_HOSTS:\n  - a\n  - b\n", map[string]string{"TRUSTED_PROXIES": "10.0.0.0/8,::1", "ADMIN_HOSTS": "a,b"}, ""},
		{"a list as text", "TRUSTED_PROXIES: 10.0.0.0/8, 192.0.2.1", map[string]string{"TRUSTED_PROXIES": "10.0.0.0/8, 192.0.2.1"}, ""},
		{"lines", "TLS_KEY: |\n  a\n  b\n", map[string]string{"TLS_KEY": "a\nb\n"}, ""},
		{"null", "PORT:\nH2C: ~\nAUDIENCE: null\nENV: \"null\"\n", map[string]string{"ENV": "null"}, ""},
		{"a twin", "TASKCLUSTER_PROXY_SECRET_A_FILE: a", map[string]string{"TASKCLUSTER_PROXY_SECRET_A_FILE": "a"}, ""},

		{"an unknown key", "PORT: 80\nMAX_STREMS: 1\n", map[string]string{"PORT": "80"}, ":2: MAX_STREMS is not a variable of the service: did you mean MAX_STREAMS?"},
		{"the wrong case", "max_streams: 1\n", nil, ":1: max_streams is not a variable of the service: did you mean MAX_STREAMS?"},
		{"a flag", "port: 1\n", nil, ":1: port is not a variable of the service: did you mean PORT?"},
		{"a short one", "PORTS: 1\n", nil, ":1: PORTS is not a variable of the service: did you mean PORT?"},
		{"nothing like it", "colour: red\n", nil, ":1: colour is not a variable of the service: websocktunnel serve --help lists them"},
		{"a twin that is none", "PORT_FILE: a\n", nil, ":1: PORT_FILE is not a variable of the service: websocktunnel serve --help lists them"},
		{"a merge key", "<<: {PORT: 80}\n", nil, ":1: a name is not a variable of the service: websocktunnel serve --help lists them"},
		{"a secret as a key", "canary secret: x\n", nil, ":1: a name is not a variable of the service: websocktunnel serve --help lists them"},
		{"a list as a key", "? [canary]\n: x\n", nil, ":1: a name must stand before the colon, such as PORT: 8080"},
		{"itself", "CONFIG_FILE: x", nil, ":1: CONFIG_FILE cannot be set in the file itself"},
		{"twice", "PORT: 80\n\nPORT: 81\n", map[string]string{"PORT": "80"}, ":3: PORT is set in line 1 already: set it only once"},
		{"null and again", "PORT:\nPORT: 81\n", nil, ":2: PORT is set in line 1 already: set it only once"},
		{"a list that is none", "PORT: [80, 81]\n", nil, ":1: PORT has a list: it must be a single value"},
		{"a list of lists", "TRUSTED_PROXIES:\n- a\n- [b]\n", nil, ":3: TRUSTED_PROXIES has an entry that is no single value"},
		{"names below", "PORT:\n  http: 80\n", nil, ":1: PORT has names and values below it: it must be a single value"},
		{"a tag", "AUDIENCE: !canary x\n", nil, ":1: AUDIENCE has a tag, anchor or alias of YAML: put a value that begins with !, & or * in quotation marks"},
		{"an anchor", "AUDIENCE: &canary x\n", nil, ":1: AUDIENCE has a tag, anchor or alias of YAML: put a value that begins with !, & or * in quotation marks"},
		{"an alias", "PORT: 80\nAUDIENCE: *canary\n", nil, ":2: an alias of YAML: put a value that begins with * in quotation marks"},
		{"a list at the top", "- canary\n", nil, ":1: the file must have one setting a line, such as PORT: 8080"},
		{"text", "canary\n", nil, ":1: the file must have one setting a line, such as PORT: 8080"},
		{"two documents", "PORT: 80\n---\nPORT: 81\n", map[string]string{"PORT": "80"}, ":2: a second document: the file must have one only, so remove the line ---"},
		{"no colon", "PORT: 80\ncanary\nH2C: on\n", nil, ":3: not valid YAML: could not find expected ':' while scanning a simple key that begins in line 2"},
		{"a tab", "PORT:\n\t- canary\n", nil, ":2: not valid YAML: found character that cannot start any token while scanning for the next token"},
		{"an open string", "AUDIENCE: 'canary\n", nil, ":2: not valid YAML: found unexpected end of stream while scanning a quoted scalar that begins in line 1"},
		{"a control character", "AUDIENCE: \x01canary\n", nil, ": not valid YAML, which is text in UTF-8: control characters are not allowed (value: 1)"},
		{"no UTF-8", "AUDIENCE: \xffcanary\n", nil, ": not valid YAML, which is text in UTF-8: invalid leading UTF-8 octet (value: 255)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "c.yaml")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			f := readConfigFile(path, configVariable)
			if got := strings.Join(f.faults, "\n"); got != tt.fault && got != path+tt.fault {
				t.Errorf("got the fault %q, want %q", got, path+tt.fault)
			}
			if len(f.values) != len(tt.want) {
				t.Errorf("got %v, want %v", f.values, tt.want)
			}
			for name, want := range tt.want {
				if got := f.values[name]; got.text != want || got.line == 0 {
					t.Errorf("%s: got %q in line %d, want %q", name, got.text, got.line, want)
				}
			}
		})
	}
}

// A file that cannot be read is the only fault: what it sets is not missing.
func TestConfigFileThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, make([]byte, maxConfigFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "missing"): "CONFIG_FILE cannot be read: ",
		dir:                           "CONFIG_FILE cannot be read: ",
		large:                         "must not be larger than",
	} {
		f := readConfigFile(path, configVariable)
		_, err := readConfig(input{faults: f.faults, broken: f.broken, lookup: func(string) (string, origin) { return "", origin{} }})
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want one fault with %q", path, err, want)
		}
	}
}

// A fault names the place of its value, and every variable can be set in a file.
func TestConfigFileIsReadLikeVariables(t *testing.T) {
	var text strings.Builder
	for _, name := range variableNames() {
		if name != configVariable {
			text.WriteString(name + ": '~'\n")
		}
	}
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	f := readConfigFile(path, configVariable)
	if len(f.faults) > 0 || len(f.values) != len(variableNames())-1 {
		t.Fatalf("got %d values and the faults %q", len(f.values), f.faults)
	}
	names := slices.Index(variableNames(), "MAX_STREAMS") // CONFIG_FILE, which is first, has no line
	want := path + ":" + strconv.Itoa(names)
	_, err := readConfig(input{lookup: func(name string) (string, origin) {
		return f.values[name].text, origin{kind: byFile, at: path + ":" + strconv.Itoa(f.values[name].line)}
	}})
	if err == nil || !strings.Contains(err.Error(), "MAX_STREAMS ("+want+`) "~": it must be a number`) {
		t.Errorf("got %v, want a fault at %s", err, want)
	}
}
