#!/bin/bash
# Runs GoogleTest programs side by side, one a core, and closes with one line of totals. A program whose source (the
# tests/**/NAME_test.cpp that its path names) says "// Runs alone" measures time or memory: those run at the end, one at a
# time. A program that dies, or ends without a result, counts as one failure. Skipped tests are named, with their
# reasons, before the totals. With REUSE=1 a program is not run again if it passed before, and neither it nor the
# programs, scripts and fixtures that tests use have changed since; how many these are is said. With KILN_LONG=1 the
# exhaustive series try everything, and the counts of each are printed.
set -u
# Not all that a program has: such a run says nothing of the next one.
chosen=
[ -n "${SANITIZED:-}" ] || chosen=${TEST_FILTER:-}${GTEST_FILTER:-}$(env | grep '^SIMT_' || true)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Its numbers and its time in $work/N, what it said in $work/N.log.
run() {
    local binary=$1 out=$work/$2 log=$work/$2.log start status ok bad skip
    rm -f "$binary.passed"
    touch "$out.began"
    start=$(date +%s%N)
    OMP_WAIT_POLICY=passive "$binary" ${TEST_FILTER:+--gtest_filter="$TEST_FILTER"} >"$log" 2>&1
    status=$?
    ok=$(sed -nE 's/^\[  PASSED  \] ([0-9]+) test.*/\1/p' "$log" | tail -n 1)
    bad=$(sed -nE 's/^\[  FAILED  \] ([0-9]+) test.*/\1/p' "$log" | tail -n 1)
    skip=$(sed -nE 's/^\[  SKIPPED \] ([0-9]+) test.*/\1/p' "$log" | tail -n 1)
    if [ $status -eq 0 ] && [ -z "$ok" ]; then status=1; fi  # somebody called exit(0) before the tests were through
    ok=${ok:-0} bad=${bad:-0} skip=${skip:-0}
    if [ $status -ne 0 ] && [ "$bad" = 0 ]; then bad=1; fi
    {
        if [ $status -ne 0 ]; then grep -vE '^\[( RUN      |       OK )\]' "$log"; fi
        printf '%-40s %4d passed %3d failed %3d skipped %7d ms\n' "$(name_of "$binary")" "$ok" "$bad" "$skip" \
            $((($(date +%s%N) - start) / 1000000))
        if [ -n "${KILN_LONG:-}" ]; then grep -aE ': [0-9]+ attempts, [0-9]+ violations$' "$log"; fi
    } >"$out.said"
    cat "$out.said"
    echo "$ok $bad $skip" >"$out.count"
    awk '/^\[ RUN / { test = $4; why = "" }
        /^\[/ { inside = 0 }
        inside && NF { why = why " " $0 }
        /: Skipped$/ { inside = 1 }
        /^\[  SKIPPED \] .* ms\)$/ { print "skipped: " test ":" why }' "$log" >"$out.reasons"
    # What changes while it runs is newer than the mark.
    if [ "$bad" = 0 ] && [ "$ok" -gt 0 ] && [ -z "$chosen" ]; then
        cat "$out.count" "$out.reasons" >"$binary.passed"
        touch -r "$out.began" "$binary.passed"
    fi
    return 0
}

name_of() { sed -E 's,^(.*/)?tests/,,' <<<"$1"; }
is_alone() {
    local source=tests/$(name_of "$1").cpp
    [ -f "$source" ] && grep -q '^// Runs alone' "$source"
}

# Whether the test program $1 passed in a run before, on all that is there now.
is_known() {
    [ -n "${REUSE:-}" ] && [ -z "$chosen" ] && [ "$1.passed" -nt "$1" ] &&
        [ -z "$(find "${BUILD:-build}"/bin "${BUILD:-build}"/emulator/bin dev tests README.md Makefile \
            -newer "$1.passed" -print -quit 2>/dev/null)" ]
}

count=0 reused=0 alone=()
for binary in "$@"; do
    count=$((count + 1))
    if is_known "$binary"; then
        head -n 1 "$binary.passed" >"$work/$count.count"
        tail -n +2 "$binary.passed" >"$work/$count.reasons"
        reused=$((reused + 1))
    elif is_alone "$binary"; then
        alone+=("$binary $count")
    else
        while [ "$(jobs -rp | wc -l)" -ge "${TEST_JOBS:-$(nproc)}" ]; do wait -n; done
        run "$binary" $count &
    fi
done
wait
for entry in ${alone[@]+"${alone[@]}"}; do run ${entry% *} ${entry##* }; done

passed=0 failed=0 skipped=0
for file in "$work"/*.count; do
    read -r ok bad skip <"$file"
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
done
[ "$reused" = 0 ] || echo "reused: the results of $reused of $count test programs, on which nothing has changed since they passed"
command -v nvidia-smi >/dev/null || echo "skipped: no GPU (0 tests need one in this version)"
cat "$work"/*.reasons 2>/dev/null
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
