package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/sirupsen/logrus"
)

// verdict is the engine's answer to a case beside what was expected.
type verdict struct {
	File string `json:"file"`
	Name string `json:"name"`
	Answer
	Differs []string `json:"differs,omitempty"`
}

// runConformance prints one JSON line a case, and a summary to stderr.
func runConformance(args []string) error {
	flags := flag.NewFlagSet("conformance", flag.ExitOnError)
	limit := flags.Duration("timeout", 10*time.Second, "how long a case may take")
	onlyDiffering := flags.Bool("differing", false, "print only cases that differ from what they expect")
	verbose := flags.Bool("v", false, "print the engine's log to stderr")
	if err := flags.Parse(args); err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	same, differ := 0, 0
	for _, file := range flags.Args() {
		cases, err := readCases(file)
		if err != nil {
			return err
		}
		for _, c := range cases {
			v := verdict{File: file, Name: c.Name, Answer: answer(&c, false, *limit, logTo(*verbose))}
			v.Differs = differences(c.Expect, v.Answer)
			if len(v.Differs) > 0 {
				differ++
			} else {
				same++
			}
			if len(v.Differs) == 0 && *onlyDiffering {
				continue
			}
			if err := out.Encode(v); err != nil {
				return err
			}
		}
	}
	fmt.Fprintf(os.Stderr, "conformance: %d as expected, %d differ\n", same, differ)
	return nil
}

// runRecord prints the cases of a file with the engine's answers as `expect`.
func runRecord(args []string) error {
	flags := flag.NewFlagSet("record", flag.ExitOnError)
	limit := flags.Duration("timeout", 10*time.Second, "how long a case may take")
	full := flags.Bool("full", false, "answer with everything fetched up front; requests stay those of the lazy run")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("record: one file, please")
	}
	cases, err := readCases(flags.Arg(0))
	if err != nil {
		return err
	}
	for i := range cases {
		ans := answer(&cases[i], false, *limit, logTo(false))
		requests := ans.Requests
		if *full {
			ans = answer(&cases[i], true, *limit, logTo(false))
		}
		cases[i].Expect = &Expect{
			Action:       Actions{ans.Action},
			DenyMessages: ans.DenyMessages,
			Update:       ans.Update,
			Requests:     requests,
		}
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", " ")
	return out.Encode(cases)
}

// runEval reads cases from stdin, one JSON document after another, and answers
// each at once: {"name", "lazy": answer, "full": answer}.
func runEval(args []string) error {
	flags := flag.NewFlagSet("eval", flag.ExitOnError)
	limit := flags.Duration("timeout", 10*time.Second, "how long a case may take")
	if err := flags.Parse(args); err != nil {
		return err
	}
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	out := json.NewEncoder(os.Stdout)
	for {
		var c Case
		if err := in.Decode(&c); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		err := out.Encode(struct {
			Name string `json:"name"`
			Lazy Answer `json:"lazy"`
			Full Answer `json:"full"`
		}{c.Name, answer(&c, false, *limit, logTo(false)), answer(&c, true, *limit, logTo(false))})
		if err != nil {
			return err
		}
	}
}

func differences(want *Expect, got Answer) []string {
	if want == nil {
		return nil
	}
	var out []string
	if !slices.Contains(want.Action, got.Action) {
		out = append(out, fmt.Sprintf("action: %s, expected %v", got.Action, []string(want.Action)))
		return out
	}
	if got.Action == "DENY" && !slices.Contains(want.Action, "ERROR") && !slices.Equal(want.DenyMessages, got.DenyMessages) {
		out = append(out, fmt.Sprintf("deny messages: %q, expected %q", got.DenyMessages, want.DenyMessages))
	}
	if got.Action == "CONVERT" && !sameSource(want.Update, got.Update) {
		out = append(out, fmt.Sprintf("update: %+v, expected %+v", got.Update, want.Update))
	}
	if len(got.Requests) > len(want.Requests) {
		out = append(out, fmt.Sprintf("requests: %v, expected %v", got.Requests, want.Requests))
	}
	return out
}

func sameSource(a, b *Source) bool {
	if a == nil || b == nil || a.Identifier != b.Identifier || len(a.Attrs) != len(b.Attrs) {
		return a == b
	}
	for k, v := range a.Attrs {
		if w, ok := b.Attrs[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// logTo gives the engine a log, as Buildx does; without one it drops print().
func logTo(stderr bool) func(logrus.Level, string) {
	if !stderr {
		return func(logrus.Level, string) {}
	}
	return func(level logrus.Level, msg string) {
		fmt.Fprintf(os.Stderr, "%s: %s\n", level, msg)
	}
}
