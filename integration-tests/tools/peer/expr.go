package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"
)

// exprPolicy hands an expression's values out as a deny message: the way goes
// through the whole engine, with Docker's builtins and nothing else.
const exprPolicy = `package docker

decision := {"allow": false, "deny_msg": [json.marshal([{"type": type_name(y), "value": y} | y := %s])]}
`

// value is one value of an expression; a set is an array in JSON, hence the type.
type value struct {
	Type  string          `json:"type"`
	Value json.RawMessage `json:"value"`
}

// runExpr reads one Rego expression a line and prints one JSON line for each:
// {"type", "value"}, {"undefined": true}, {"values": […]} or {"error"}.
func runExpr(args []string) error {
	flags := flag.NewFlagSet("expr", flag.ExitOnError)
	limit := flags.Duration("timeout", 10*time.Second, "how long an expression may take")
	if err := flags.Parse(args); err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for in.Scan() {
		if err := out.Encode(evalExpr(in.Text(), *limit)); err != nil {
			return err
		}
	}
	return in.Err()
}

func evalExpr(expr string, limit time.Duration) any {
	type failure struct {
		Error string `json:"error"`
	}
	c := &Case{
		Policies: []string{"expr.rego"},
		Files:    map[string]string{"expr.rego": fmt.Sprintf(exprPolicy, expr)},
		Source:   Source{Identifier: "local://context"},
	}
	ans := answer(c, false, limit, logTo(false))
	if ans.Error != "" {
		return failure{ans.Error}
	}
	if len(ans.DenyMessages) != 1 {
		return failure{"the expression's values cannot be written as JSON"}
	}
	var values []value
	if err := json.Unmarshal([]byte(ans.DenyMessages[0]), &values); err != nil {
		return failure{err.Error()}
	}
	switch len(values) {
	case 0:
		return map[string]bool{"undefined": true}
	case 1:
		return values[0]
	default:
		return map[string][]value{"values": values}
	}
}
