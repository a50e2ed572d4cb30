package main

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing/fstest"
	"time"

	"github.com/containerd/platforms"
	"github.com/docker/buildx/policy"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	spb "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/moby/buildkit/sourcepolicy/policysession"
	"github.com/sirupsen/logrus"
)

// maxRounds is how often the daemon asks about one source.
const maxRounds = 10

// Answer is what the engine said to a case.
type Answer struct {
	Action       string   `json:"action"`
	DenyMessages []string `json:"deny_messages,omitempty"`
	Update       *Source  `json:"update,omitempty"`
	Requests     []string `json:"requests"`
	Error        string   `json:"error,omitempty"`
}

// engine decides one case, as often as it is asked to.
type engine struct {
	policy   *policy.Policy
	source   *pb.SourceOp
	platform *pb.Platform
	metadata Metadata
}

func newEngine(c *Case, log func(logrus.Level, string)) (*engine, error) {
	files := fstest.MapFS{}
	for name, text := range c.Files {
		files[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	opt := policy.Opt{
		Env: c.Env,
		Log: log,
		FS: func() (fs.StatFS, func() error, error) {
			return files, func() error { return nil }, nil
		},
	}
	for _, name := range c.Policies {
		text, ok := c.Files[name]
		if !ok {
			return nil, fmt.Errorf("policy %s is not among the files", name)
		}
		opt.Files = append(opt.Files, policy.File{Filename: name, Data: []byte(text)})
	}
	name := c.Platform
	if name == "" {
		name = "linux/amd64"
	}
	p, err := platforms.Parse(name)
	if err != nil {
		return nil, err
	}
	return &engine{
		policy:   policy.NewPolicy(opt),
		source:   &pb.SourceOp{Identifier: c.Source.Identifier, Attrs: c.Source.Attrs},
		platform: &pb.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant},
		metadata: c.Metadata,
	}, nil
}

// decide does what the daemon does: asks, resolves what the engine wants to
// know, and asks again.
func (e *engine) decide(ctx context.Context, known *gwpb.ResolveSourceMetaResponse) Answer {
	ans := Answer{Requests: []string{}}
	req := &policysession.CheckPolicyRequest{Platform: e.platform, Source: known}
	for range maxRounds {
		decision, next, err := e.policy.CheckPolicy(ctx, req)
		if err != nil {
			return ans.failed(err)
		}
		if next == nil {
			return ans.decided(decision)
		}
		ans.Requests = append(ans.Requests, requestName(next))
		if req.Source, err = e.metadata.resolve(next); err != nil {
			return ans.failed(err)
		}
	}
	return ans.failed(fmt.Errorf("no decision after %d rounds", maxRounds))
}

func (e *engine) nothingKnown() *gwpb.ResolveSourceMetaResponse {
	return &gwpb.ResolveSourceMetaResponse{Source: e.source}
}

func (a Answer) failed(err error) Answer {
	a.Action, a.Error = "ERROR", err.Error()
	return a
}

func (a Answer) decided(d *policysession.DecisionResponse) Answer {
	a.Action = d.Action.String()
	for _, m := range d.DenyMessages {
		a.DenyMessages = append(a.DenyMessages, m.Message)
	}
	slices.Sort(a.DenyMessages)
	if d.Action == spb.PolicyAction_CONVERT {
		a.Update = &Source{Identifier: d.Update.Identifier, Attrs: d.Update.Attrs}
	}
	return a
}

// answer decides a case, with nothing known at first or (full) with everything
// fetched, and makes an error of a panic and of an engine that does not come
// back.
func answer(c *Case, full bool, limit time.Duration, log func(logrus.Level, string)) Answer {
	nothing := Answer{Requests: []string{}}
	e, err := newEngine(c, log)
	if err != nil {
		return nothing.failed(err)
	}
	known := e.nothingKnown()
	if full {
		known = e.metadata.all(e.source)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	done := make(chan Answer, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- nothing.failed(fmt.Errorf("panic: %v", p))
			}
		}()
		done <- e.decide(ctx, known)
	}()
	select {
	case ans := <-done:
		return ans
	case <-time.After(limit + time.Second):
		// A builtin that heeds no context keeps running; nothing can stop it.
		return nothing.failed(fmt.Errorf("no answer within %s", limit))
	}
}

func requestName(req *gwpb.ResolveSourceMetaRequest) string {
	var parts []string
	if req.Image != nil {
		parts = append(parts, "image")
		if !req.Image.NoConfig {
			parts = append(parts, "config")
		}
		if req.Image.AttestationChain {
			parts = append(parts, "attestations")
		}
	}
	if req.Git != nil {
		parts = append(parts, "git")
		if req.Git.ReturnObject {
			parts = append(parts, "objects")
		}
	}
	if req.Image == nil && req.Git == nil {
		parts = append(parts, "http")
		if req.HTTP != nil && req.HTTP.ChecksumRequest != nil {
			parts = append(parts, "checksum-assist")
		}
	}
	return strings.Join(parts, "+")
}
