#!/bin/sh
# The demo: a build with three bad sources is refused, the mended one is allowed.
# It needs no daemon and no network. BUILDGATE names the binary, where it is not the release build.
set -u

cd "$(dirname "$0")/../.." || exit 2
buildgate=${BUILDGATE:-target/release/buildgate}

fail() {
	echo "demo: $1" >&2
	exit 1
}

# check FILE CODE SUMMARY: decides FILE, and wants exit code CODE and SUMMARY at the end.
check() {
	set -- "$1" "$2" "$3" \
		check policies/demo -f "policies/demo/$1" --policy policies/registry-gatekeeper --offline
	file=$1 code=$2 summary=$3
	shift 3
	echo "\$ buildgate $*"
	output=$("$buildgate" "$@" 2>&1)
	got=$?
	printf '%s\n\n' "$output"
	[ "$got" -eq "$code" ] || fail "$file: exit code $got, expected $code"
	case $(printf '%s\n' "$output" | tail -n 1) in
	*"$summary") ;;
	*) fail "$file: expected the summary to end with '$summary'" ;;
	esac
	denials=$(printf '%s\n' "$output" | grep -c '^denied: ')
}

check Dockerfile 1 "3 denied"
[ "$denials" -eq 3 ] || fail "Dockerfile: $denials denials drawn, expected 3"

check Dockerfile.fixed 0 " allowed"
[ "$denials" -eq 0 ] || fail "Dockerfile.fixed: $denials denials drawn, expected none"

echo "demo: refused with three denials, mended, allowed."
