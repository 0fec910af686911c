#!/bin/bash
# `make attention-report`: keeps what the program of the first argument prints in dev/bench/attention_report.txt. With
# --check as the second argument, writes nothing and fails if that file differs.
set -eu
cd "$(dirname "$0")/.."
report=dev/bench/attention_report.txt
new=$(mktemp)
trap 'rm -f "$new"' EXIT
"$1" >"$new"
if [ "${2:-}" != --check ]; then
    cp "$new" $report
    echo "attention-report: $(grep -vc '^#' $report) instances, in $report"
elif ! diff -u $report "$new" >&2; then
    echo "attention-report: the attention kernels' resources have changed; run 'make attention-report', check the difference, and commit it" >&2
    exit 1
fi
