#!/bin/bash
# `make sanitize-kernels`: the tests of the second argument on, built with the sanitizer that the first one names, with
# the filters that fit it. PART=2/3 runs every third test from the second on. One schedule: the plain build runs three, and
# ThreadSanitizer sees races in any. Cases of many tiles run in the plain build only. Of the engine, whose kernels these
# are, a step of each model in one type runs under `address` only; the plain build compares the bits of two runs. Flash
# attention's lengths do not run under `thread`: the other shapes take the same paths.
set -eu
cd "$(dirname "$0")/.."
kind=$1
shift
export SIMT_SCHEDULES=1
if [ -n "${PART:-}" ]; then
    export GTEST_TOTAL_SHARDS=${PART#*/} GTEST_SHARD_INDEX=$((${PART%/*} - 1))
    echo "sanitize-kernels: part $PART of the tests"
fi
plain_build_only=:*many_tiles*
for name in ten_steps losses schedules micro_batches recompute chunks steps_without graphs generation_between; do
    plain_build_only+=":*CudaEngine*.*$name*"
done
case $kind in
    address)
        export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
        export GTEST_FILTER="-*_float16:*CudaEngine*.*_float32:*CudaGeneration.*_float32:*.ten_runs*$plain_build_only"
        ;;
    thread)
        export OMP_NUM_THREADS=1
        export GTEST_FILTER="-*_float16:*_float32:*.ten_runs*:*_lengths_*$plain_build_only"
        ;;
    *) echo "sanitized_tests: '$kind' is neither address nor thread" >&2; exit 2 ;;
esac
SANITIZED=$kind exec dev/run_tests.sh "$@"
