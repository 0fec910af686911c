#!/bin/bash
# `make fuzz`: every fuzzer for FUZZ_SECONDS (60), two at a time, from tests/fuzz/corpus and tests/hostile. What a fuzzer
# finds goes to $BUILD/fuzz/, with the command that runs it again. Without clang there is nothing to run, which is said.
set -u
cd "$(dirname "$0")/.."
program=${BUILD:-build}/fuzz/fuzz
seconds=${FUZZ_SECONDS:-60}
if [ ! -x "$program" ]; then
    echo "fuzz: skipped: no clang++ with libFuzzer here (Debian: clang, libclang-rt-14-dev); $(ls tests/fuzz/corpus | wc -l) fuzzers not run"
    exit 0
fi
run() {
    target=$1 work=${BUILD:-build}/fuzz/$1
    mkdir -p "$work/found"
    corpora=$(ls -d "tests/fuzz/corpus/$target" "tests/hostile/$target" 2>/dev/null)
    KILN_FUZZ_TARGET=$target UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 "$program" -max_total_time="$seconds" \
        -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=512 -max_len=16384 -print_final_stats=1 -verbosity=0 \
        -artifact_prefix="$work/" "$work/found" $corpora >"$work/log" 2>&1
    status=$?
    executed=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/log")
    if [ $status -eq 0 ]; then
        echo "fuzz: $target: ${executed:-0} inputs, nothing found"
    else
        echo "fuzz: $target: FOUND; the end of $work/log:"
        tail -n 30 "$work/log"
        for input in "$work"/crash-* "$work"/timeout-* "$work"/oom-* "$work"/leak-*; do
            [ -f "$input" ] && echo "fuzz: again: KILN_FUZZ_TARGET=$target $program $input"
        done
    fi
    return $status
}
targets=$(ls tests/fuzz/corpus)
failed=0 pids=
for target in $targets; do
    run "$target" &
    pids="$pids $!"
    [ "$(echo $pids | wc -w)" -lt 2 ] && continue
    for pid in $pids; do wait "$pid" || failed=1; done
    pids=
done
for pid in $pids; do wait "$pid" || failed=1; done
exit $failed
