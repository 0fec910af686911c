#!/bin/bash
# `make check-kernel-table`: fails if dev/bench/kernel_resources.txt differs from the output of this machine's nvcc, or if
# a spill is not listed. Another hash of the sources alone is no failure. Arguments, HASH and RELEASE as for kernel_table.sh.
# Reads BUILD from the environment.
set -eu
cd "$(dirname "$0")/.."
table=dev/bench/kernel_resources.txt new=$BUILD/kernel_resources.txt
TABLE=$new dev/kernel_table.sh "$@"
if ! diff -u -I '^# hash ' $table "$new" >&2; then
    echo "check-kernel-table: the kernels' resources have changed; run 'make kernel-table', check the difference, and commit the table" >&2
    exit 1
fi
echo "check-kernel-table: the same as $table"
cmp -s $table "$new" ||
    echo "check-kernel-table: that table is of other sources; commit what 'make kernel-table' writes, and this check need not compile them again"
