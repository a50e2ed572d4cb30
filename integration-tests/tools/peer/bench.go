package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"
)

// measure is what one case costs.
type measure struct {
	Name       string  `json:"name"`
	Action     string  `json:"action"`
	Rounds     int     `json:"rounds"`
	Threads    int     `json:"threads"`
	Iterations int     `json:"iterations"`
	Nanos      float64 `json:"ns_per_decision"`
	Allocs     float64 `json:"allocs_per_decision"`
	Bytes      float64 `json:"bytes_per_decision"`
}

// runBench decides each case of a file over and over, with one Policy for all
// of its decisions as Buildx has one for all of a build's, and prints the costs.
func runBench(args []string) error {
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	wanted := flags.Duration("time", time.Second, "how long to measure a case")
	threads := flags.Int("threads", 1, "how many goroutines decide at once")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 || *threads < 1 {
		return errors.New("bench: one file and at least one thread, please")
	}
	cases, err := readCases(flags.Arg(0))
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(*threads)
	report := struct {
		Cases     []measure `json:"cases"`
		PeakRSSKB int       `json:"peak_rss_kib"`
	}{}
	for _, c := range cases {
		m, err := measureCase(&c, *wanted, *threads)
		if err != nil {
			return err
		}
		report.Cases = append(report.Cases, m)
	}
	if report.PeakRSSKB, err = peakRSS(); err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(report)
}

func measureCase(c *Case, wanted time.Duration, threads int) (measure, error) {
	e, err := newEngine(c, logTo(false))
	if err != nil {
		return measure{}, fmt.Errorf("%s: %w", c.Name, err)
	}
	ctx := context.Background()
	started := time.Now()
	first := e.decide(ctx, e.nothingKnown())
	once := time.Since(started)
	if diffs := differences(c.Expect, first); len(diffs) > 0 {
		return measure{}, fmt.Errorf("%s: %v", c.Name, diffs)
	}
	each := max(3, int(wanted/max(once, time.Microsecond)))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	started = time.Now()
	var running sync.WaitGroup
	for range threads {
		running.Go(func() {
			for range each {
				e.decide(ctx, e.nothingKnown())
			}
		})
	}
	running.Wait()
	took := time.Since(started)
	runtime.ReadMemStats(&after)
	n := each * threads
	return measure{
		Name:       c.Name,
		Action:     first.Action,
		Rounds:     len(first.Requests),
		Threads:    threads,
		Iterations: n,
		Nanos:      float64(took.Nanoseconds()) / float64(n),
		Allocs:     float64(after.Mallocs-before.Mallocs) / float64(n),
		Bytes:      float64(after.TotalAlloc-before.TotalAlloc) / float64(n),
	}, nil
}

// peakRSS is the most memory this process has held, in KiB.
func peakRSS() (int, error) {
	dt, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, rest, ok := bytes.Cut(dt, []byte("VmHWM:"))
	if !ok {
		return 0, errors.New("no VmHWM in /proc/self/status")
	}
	var kb int
	_, err = fmt.Sscan(string(rest), &kb)
	return kb, err
}
