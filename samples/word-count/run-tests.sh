#!/bin/sh
# Runs the tests that are named, or all of them in order; stops at the first that fails.
# A test is a pair of files: tests/NAME.in goes in, tests/NAME.out must come out.
cd "$(dirname "$0")" || exit 2
if [ $# -eq 0 ]; then
    for file in tests/*.in; do
        name=${file#tests/}
        set -- "$@" "${name%.in}"
    done
fi
out=$(mktemp) || exit 2
trap 'rm -f "$out"' EXIT
passed=0
for name in "$@"; do
    perl bin/word-count < "tests/$name.in" > "$out" || exit 2
    if diff "tests/$name.out" "$out" > "$out.diff"; then
        echo "ok - $name"
        passed=$((passed + 1))
        rm -f "$out.diff"
    else
        echo "not ok - $name (< wanted, > got)"
        cat "$out.diff"
        rm -f "$out.diff"
        exit 1
    fi
done
echo "$passed tests passed"
