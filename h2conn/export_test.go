package h2conn

// SendsGoaway tells tests whether this build's x/net sends GOAWAY.
const SendsGoaway = sendsGoaway
