#!/bin/bash
# Runs GoogleTest binaries one after another and closes with one line of totals. A binary that dies, or ends
# without a result, counts as one failure. Skipped tests are named, with their reasons, before the totals.
set -u
passed=0 failed=0 skipped=0 reasons=''
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for binary in "$@"; do
    start=$(date +%s%N)
    "$binary" ${TEST_FILTER:+--gtest_filter="$TEST_FILTER"} >"$log" 2>&1
    status=$?
    ms=$((($(date +%s%N) - start) / 1000000))
    ok=$(sed -nE 's/^\[  PASSED  \] ([0-9]+) test.*/\1/p' "$log" | tail -n 1)
    bad=$(sed -nE 's/^\[  FAILED  \] ([0-9]+) test.*/\1/p' "$log" | tail -n 1)
    skip=$(sed -nE 's/^\[  SKIPPED \] ([0-9]+) test.*/\1/p' "$log" | tail -n 1)
    if [ $status -eq 0 ] && [ -z "$ok" ]; then status=1; fi  # somebody called exit(0) before the tests were through
    ok=${ok:-0} bad=${bad:-0} skip=${skip:-0}
    if [ $status -ne 0 ] && [ "$bad" = 0 ]; then bad=1; fi
    if [ $status -ne 0 ]; then grep -vE '^\[( RUN      |       OK )\]' "$log"; fi
    reasons+=$(awk '/^\[ RUN / { test = $4; why = "" }
        /^\[/ { inside = 0 }
        inside && NF { why = why " " $0 }
        /: Skipped$/ { inside = 1 }
        /^\[  SKIPPED \] .* ms\)$/ { print "skipped: " test ":" why }' "$log")$'\n'
    printf '%-32s %4d passed %3d failed %3d skipped %7d ms\n' "$(basename "$binary")" "$ok" "$bad" "$skip" "$ms"
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
done
command -v nvidia-smi >/dev/null || echo "skipped: no GPU (0 tests need one in this version)"
grep . <<<"$reasons"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
