#!/usr/bin/env bash
# Builds the frontend's image with the BuildKit at BUILDKIT_HOST, and pushes it: see `make image`.
set -euo pipefail

image=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
buildctl=$(command -v buildctl || echo "$BIN/buildctl")
# How long a registry may take to tell whether it has the child.
patience=20

die() {
  echo "$*" >&2
  exit 2
}

mkdir -p "$work/binary/bin" "$work/policies" "$work/child/bin"
cp "$BINARY" "$work/binary/bin/buildgate"

# A folder with rules at its top is one policy; else each folder in it is one.
if [ -n "${POLICIES:-}" ]; then
  [ -d "$POLICIES" ] || die "POLICIES=$POLICIES is no folder"
  if find "$POLICIES/" -maxdepth 1 -name '*.rego' ! -name '*_test.rego' | grep -q .; then
    cp -RL "$POLICIES" "$work/policies/org"
  else
    find "$POLICIES/" -mindepth 2 -maxdepth 2 -name '*.rego' ! -name '*_test.rego' | grep -q . ||
      die "POLICIES=$POLICIES holds no policy"
    cp -RL "$POLICIES/." "$work/policies/"
  fi
fi

# Seconds (0 for as long as it takes), then options of the build.
build_within() {
  local seconds=$1
  shift
  timeout "$seconds" "$buildctl" build --progress=plain --frontend dockerfile.v0 \
    --local "context=$work/policies" --local "dockerfile=$here" "$@"
}

case "${CHILD:-}" in
  pinned) ;;
  *@sha256:*) child=(--opt "build-arg:CHILD=$CHILD") ;;
  "")
    if build_within "$patience" --opt target=child >"$work/asked" 2>&1; then
      child=()
    else
      tail -n 1 "$work/asked" >&2
      echo "the official image is out of reach; the child is the one that \`make tools\` built" >&2
      CHILD=pinned
    fi
    ;;
  *) die "CHILD=$CHILD names no digest: a tag is whatever its registry says today" ;;
esac
if [ "${CHILD:-}" = pinned ]; then
  [ -x "$BIN/dockerfile-frontend" ] || die "run \`make tools\` first, or name CHILD=IMAGE@sha256:…"
  cp "$BIN/dockerfile-frontend" "$work/child/bin/"
  child=(--local "child=$work/child" --opt context:child=local:child)
fi

build_within 0 --local "binary=$work/binary" --opt context:binary=local:binary \
  --local "policies=$work/policies" --opt context:policies=local:policies \
  ${child[@]+"${child[@]}"} --output "type=image,name=$image,push=true"
