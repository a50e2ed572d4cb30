#!/usr/bin/env bash
# Builds the frontend's image with the BuildKit at BUILDKIT_HOST, and pushes it: see `make image`.
set -euo pipefail

image=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/binary/bin" "$work/policies"
cp "$BINARY" "$work/binary/bin/buildgate"
if [ -n "$POLICIES" ]; then
  cp -RL "$POLICIES/." "$work/policies/"
fi

buildctl=$(command -v buildctl || echo "$BIN/buildctl")
child=(--opt "build-arg:CHILD=$CHILD")
if [ "$CHILD" = pinned ]; then
  [ -x "$BIN/dockerfile-frontend" ] || { echo "run \`make tools\` first, or name CHILD=IMAGE" >&2; exit 2; }
  mkdir -p "$work/child/bin"
  cp "$BIN/dockerfile-frontend" "$work/child/bin/"
  child=(--local "child=$work/child" --opt context:child=local:child)
fi

"$buildctl" build --progress=plain --frontend dockerfile.v0 \
  --local "context=$work/policies" --local "dockerfile=$here" \
  --local "binary=$work/binary" --opt context:binary=local:binary \
  --local "policies=$work/policies" --opt context:policies=local:policies \
  "${child[@]}" --output "type=image,name=$image,push=true"
