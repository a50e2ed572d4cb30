// Command peer is Buildx's own policy engine, made to answer the same questions
// as buildgate: the oracle for conformance cases and the yardstick for speed.
// It holds no rule and no opinion of its own: what it prints is what the
// package github.com/docker/buildx/policy answered.
package main

import (
	"fmt"
	"os"
)

const usage = `usage:
  peer conformance [-differing] [-v] [-timeout D] FILE...   a JSON line a case: the engine's answer, and how it differs
  peer record [-full] [-timeout D] FILE                     the cases again, with the engine's answers as "expect"
  peer eval [-timeout D]                                    cases on stdin, one JSON document each → answers, lazy and full
  peer expr [-timeout D]                                    Rego expressions on stdin, one a line → values
  peer bench [-time D] [-threads N] FILE                    what a decision of each case costs
`

func main() {
	commands := map[string]func([]string) error{
		"conformance": runConformance,
		"record":      runRecord,
		"eval":        runEval,
		"expr":        runExpr,
		"bench":       runBench,
	}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
}
