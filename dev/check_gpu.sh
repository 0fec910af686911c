#!/bin/bash
# `make check-gpu`: the kernels' tests on a device, then under compute-sanitizer. Arguments: the test binaries. Without a
# GPU it says how many tests it could not run, and succeeds. Reads TEST_FILTER.
set -u
cd "$(dirname "$0")/.."
count=0
for binary in "$@"; do
    n=$("$binary" --gtest_list_tests | grep -c '^  ')
    [ "$n" -gt 0 ] || { echo "check-gpu: $binary lists no tests" >&2; exit 1; }
    count=$((count + n))
done
if ! nvidia-smi -L 2>/dev/null | grep -q GPU; then
    echo "skipped: no GPU ($count tests need one)"
    exit 0
fi
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
status=0
dev/run_tests.sh "$@" || status=1

sanitizer=$(command -v compute-sanitizer || ls "${CUDA:-/usr/local/cuda}/bin/compute-sanitizer" 2>/dev/null)
if [ -z "$sanitizer" ]; then
    echo "skipped: no compute-sanitizer (memcheck, racecheck)"
    exit $status
fi
# The matrix products are NVIDIA's own kernels.
for binary in "$@"; do
    case $binary in *matmul_test) continue ;; esac
    for tool in memcheck racecheck; do
        log=$(mktemp)
        if "$sanitizer" --tool $tool --error-exitcode 1 "$binary" --gtest_brief=1 \
            ${TEST_FILTER:+--gtest_filter="$TEST_FILTER"} >"$log" 2>&1; then
            echo "$tool $(basename "$binary"): clean"
        else
            echo "$tool $(basename "$binary"): FAILED"
            head -n 60 "$log"
            status=1
        fi
        rm -f "$log"
    done
done
exit $status
