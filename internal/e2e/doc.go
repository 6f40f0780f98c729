// Package e2e holds the tests in which the service and the tunnel client meet:
// real listeners, a real target, a real viewer, all in one process. The tests
// of single packages stand beside their code, those of the commands below cmd.
package e2e
