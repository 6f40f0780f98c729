package server

import (
	"reflect"
	"slices"
)

// live is the part of a Server that Reconfigure replaces, as one: nobody sees half of
// a change. An exchange reads it once; what lives longer reads it whenever it needs a
// value. What is in other places, such as limits that count, is told of a change.
type live struct {
	settings   // the fields in liveFields are the ones in force; the others never change
	verifier   *verifier
	forwarding forwarding
	hosts      viewerHosts
}

func newLive(set settings) *live {
	return &live{
		settings:   set,
		verifier:   &verifier{secrets: set.Secrets, audience: set.Audience, now: set.now},
		forwarding: forwarding{trusted: set.trusted, scheme: set.publicURL.Scheme, prefixPath: set.publicURL.Path},
		hosts:      viewerHosts{domain: set.ViewerDomain, public: lowerASCII(set.publicURL.Hostname()), trusted: set.trusted},
	}
}

// liveFields are the fields of Config that may change while the service runs. They
// are read from Server.live, never from Server.cfg.
var liveFields = []string{
	"Secrets", "Audience", "IgnoreTokenExpiry", "TrustedProxies",
	"DrainTimeout", "DrainDelay", "StallTimeout", "ResponseHeaderTimeout",
	"MaxStreams", "MaxTunnels", "MaxConnections", "MaxConnectionsPerAddress",
	"PingInterval", "PingTimeout", "WriteTimeout", "StreamWindow", "ConnWindow", "NoExtendedConnect",
}

// partsOfProgram are the fields of Config that are no settings.
var partsOfProgram = []string{"Logger", "RequestDone", "TraceRequest", "Metrics", "Version", "Cluster"}

// Reconfigure puts the settings of cfg in force that can change while the service
// runs. No connection, session or request ends for it:
//
//	Secrets, Audience           for tokens from now on; a session keeps the token that
//	                            it has, until that expires or its client sends a fresh one
//	IgnoreTokenExpiry           at once
//	TrustedProxies              for requests and connections from now on
//	StallTimeout, ResponseHeaderTimeout
//	                            for requests from now on
//	DrainTimeout, DrainDelay    for what drains from now on
//	MaxStreams                  at once; what a tunnel carries above that finishes
//	MaxTunnels, MaxConnections, MaxConnectionsPerAddress
//	                            at once; what is there above that stays
//	PingInterval, PingTimeout, WriteTimeout, StreamWindow, ConnWindow,
//	NoExtendedConnect           for sessions from now on
//
// It returns the names of the other fields in which cfg differs from the Config that
// [New] got: they need a new Server. Logger, RequestDone, TraceRequest, Metrics and
// Version are not looked at. A certificate is changed by the functions in TLSConfig.
//
// If cfg has faults nothing changes. The error is that of [Config.Validate].
func (s *Server) Reconfigure(cfg Config) (restart []string, err error) {
	wanted, err := check(cfg)
	if err != nil {
		return nil, err
	}
	s.reconfiguring.Lock()
	defer s.reconfiguring.Unlock()
	next := s.live.Load().settings
	from, to := reflect.ValueOf(wanted.Config), reflect.ValueOf(&next.Config).Elem()
	for f := range reflect.TypeFor[Config]().Fields() {
		a, b := from.FieldByIndex(f.Index), to.FieldByIndex(f.Index)
		switch {
		case !f.IsExported() || slices.Contains(partsOfProgram, f.Name):
		case slices.Contains(liveFields, f.Name):
			b.Set(a)
		case !reflect.DeepEqual(a.Interface(), b.Interface()):
			restart = append(restart, f.Name)
		}
	}
	next.trusted = wanted.trusted
	s.live.Store(newLive(next))
	s.memory.trusted.Store(&next.trusted)
	s.connections.setLimits(next.MaxConnections, next.MaxConnectionsPerAddress)
	for _, sess := range s.registry.sessions() {
		sess.resize()
		sess.notify() // its token may count now
	}
	return restart, nil
}
