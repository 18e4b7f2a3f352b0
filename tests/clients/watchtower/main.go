// Watchtower itself, from its module.
package main

import "github.com/containrrr/watchtower/cmd"

func main() {
	cmd.Execute()
}
