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
    # The frontend refuses every build where anything else lies there.
    while IFS= read -r -d '' entry; do
      [ -d "$entry" ] && find "$entry/" -maxdepth 1 -name '*.rego' ! -name '*_test.rego' | grep -q . ||
        die "$entry holds no policy, and lies beside policies"
    done < <(find "$POLICIES/" -mindepth 1 -maxdepth 1 -print0)
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
      # Somebody answers for the registry, with something else than the digest names.
      ! grep -Eq 'unexpected commit (digest|size)|failed size validation|digest mismatch|failed precondition' \
        "$work/asked" || die "the official image is not what its digest says"
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

build_image() {
  build_within 0 --local "binary=$work/binary" --opt context:binary=local:binary \
    --local "policies=$work/policies" --opt context:policies=local:policies \
    ${child[@]+"${child[@]}"} --output "$1"
}

if [ -n "${MAX_IMAGE:-}" ]; then
  # The files as they are; what is pushed is compressed.
  size=$(build_image type=tar,dest=- | wc -c)
  echo "the image has $size bytes" >&2
  [ "$size" -lt "$MAX_IMAGE" ] || die "$image would have $size bytes, and may have $MAX_IMAGE"
fi
build_image "type=image,name=$image,push=true"
