// Package directorytest has the tests that every [cluster.Directory] has to pass.
package directorytest
