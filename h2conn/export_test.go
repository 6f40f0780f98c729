package h2conn

import "io"

// SendsGoaway tells tests whether this build's x/net sends GOAWAY.
const SendsGoaway = sendsGoaway

// EndingBody returns r as a body that calls ended when it has been read to its
// end.
func EndingBody(r io.Reader, ended func()) io.Reader { return &endingBody{Reader: r, ended: ended} }
