#!/bin/bash
# `make check-kernel-table`: fails if dev/bench/kernel_resources.txt differs from the output of this machine's nvcc, or if
# a spill is not listed. Arguments as for kernel_table.sh. Reads NVCC and BUILD from the environment.
set -eu
cd "$(dirname "$0")/.."
if [ -z "$NVCC" ]; then
    echo "check-kernel-table: skipped: no nvcc"
    exit 0
fi
TABLE=$BUILD/kernel_resources.txt dev/kernel_table.sh "$@"
if ! diff -u dev/bench/kernel_resources.txt "$BUILD/kernel_resources.txt" >&2; then
    echo "check-kernel-table: the kernels' resources have changed; run 'make kernel-table', check the difference, and commit the table" >&2
    exit 1
fi
