// Package docs knows where the documentation is, for what links to it. Its tests
// hold the documents against the tree.
package docs

// BaseURL is where the documents in docs/ can be read, with a slash at the end.
const BaseURL = "https://github.com/websocktunnel/websocktunnel/blob/main/docs/"
