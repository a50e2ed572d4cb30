// Command child is a frontend on BuildKit's own client library, for what the Dockerfile frontend never
// asks a daemon for: processes in containers, and frontends inside itself. What it does is told by the
// options of the build; what came of it is the build's result, or its error.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/gateway/grpcclient"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/appcontext"
)

const busybox = "/bin/busybox"

func main() {
	if err := grpcclient.RunFromEnvironment(appcontext.Context(), build); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		os.Exit(1)
	}
}

func build(ctx context.Context, c client.Client) (*client.Result, error) {
	options := c.BuildOpts().Opts
	switch does := options["do"]; does {
	case "run":
		return run(ctx, c, options["image"])
	case "wait":
		return wait(ctx, c, options["image"], options["seconds"])
	case "nested":
		return c.Solve(ctx, client.SolveRequest{
			Frontend:    options["frontend"],
			FrontendOpt: map[string]string{"source": options["image"]},
		})
	default:
		return nil, fmt.Errorf("do=%s is nothing that this frontend does", does)
	}
}

// run starts processes in a container of the image: one that gives back what it is given, one that
// fails, and one that is killed.
func run(ctx context.Context, c client.Client, image string) (*client.Result, error) {
	container, err := contain(ctx, c, image)
	if err != nil {
		return nil, err
	}
	defer container.Release(ctx)
	// A container lives as long as its first process.
	first, err := start(ctx, container, nil, &output{}, &output{}, "sleep", "1000")
	if err != nil {
		return nil, err
	}
	given := strings.Repeat("0123456789abcdef", 1<<16)
	var echoed, said, complained output
	process, err := start(ctx, container, strings.NewReader(given), &echoed, &output{}, "cat")
	if err != nil {
		return nil, err
	}
	if err := process.Wait(); err != nil {
		return nil, err
	}
	if echoed.String() != given {
		return nil, fmt.Errorf("%d bytes went in, and %d others came out", len(given), echoed.Len())
	}
	process, err = start(ctx, container, nil, &said, &complained, "sh", "-c", "echo said; echo complained >&2; exit 7")
	if err != nil {
		return nil, err
	}
	failed := exit(process.Wait())
	stat, err := container.StatFile(ctx, client.StatContainerRequest{
		StatRequest: client.StatRequest{Path: busybox},
	})
	if err != nil {
		return nil, err
	}
	if err := first.Signal(ctx, syscall.SIGKILL); err != nil {
		return nil, err
	}
	killed := exit(first.Wait())
	return written(ctx, c, fmt.Sprintf("echoed %d\n%s%sfailed %s\nkilled %s\n%s\n",
		echoed.Len(), said.String(), complained.String(), failed, killed, stat.Path))
}

// wait does nothing but wait for a process.
func wait(ctx context.Context, c client.Client, image, seconds string) (*client.Result, error) {
	container, err := contain(ctx, c, image)
	if err != nil {
		return nil, err
	}
	defer container.Release(ctx)
	process, err := start(ctx, container, nil, &output{}, &output{}, "sleep", seconds)
	if err != nil {
		return nil, err
	}
	if err := process.Wait(); err != nil {
		return nil, err
	}
	return written(ctx, c, "waited\n")
}

func contain(ctx context.Context, c client.Client, image string) (client.Container, error) {
	result, err := solve(ctx, c, llb.Image(image))
	if err != nil {
		return nil, err
	}
	ref, err := result.SingleRef()
	if err != nil {
		return nil, err
	}
	return c.NewContainer(ctx, client.NewContainerRequest{
		Mounts: []client.Mount{{Dest: "/", MountType: pb.MountType_BIND, Ref: ref}},
	})
}

func start(
	ctx context.Context, container client.Container, in io.Reader, out, errs *output, args ...string,
) (client.ContainerProcess, error) {
	request := client.StartRequest{
		Args: append([]string{busybox}, args...), Cwd: "/", User: "0", Stdout: out, Stderr: errs,
	}
	if in != nil {
		request.Stdin = io.NopCloser(in)
	}
	return container.Start(ctx, request)
}

// written is a result of one file, `out`.
func written(ctx context.Context, c client.Client, text string) (*client.Result, error) {
	return solve(ctx, c, llb.Scratch().File(llb.Mkfile("/out", 0o644, []byte(text))))
}

func solve(ctx context.Context, c client.Client, state llb.State) (*client.Result, error) {
	definition, err := state.Marshal(ctx)
	if err != nil {
		return nil, err
	}
	return c.Solve(ctx, client.SolveRequest{Definition: definition.ToPB()})
}

// exit is how a process ended, as the daemon tells it.
func exit(err error) string {
	var code *gateway.ExitError
	switch {
	case err == nil:
		return "not at all"
	case errors.As(err, &code):
		return fmt.Sprintf("with %d", code.ExitCode)
	default:
		return err.Error()
	}
}

type output struct{ bytes.Buffer }

func (*output) Close() error { return nil }
