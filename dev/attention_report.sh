#!/bin/bash
# `make attention-report`: what each instance of the attention kernels uses of a multiprocessor, as a table for diffs.
# nvcc's numbers come from dev/bench/kernel_resources.txt; threads and dynamic shared memory come from the launchers, which
# the program of the first argument runs. Writes dev/bench/attention_report.txt. With --check as the second argument,
# writes nothing and fails if that file differs.
set -eu
cd "$(dirname "$0")/.."
report=dev/bench/attention_report.txt resources=dev/bench/kernel_resources.txt
export LC_ALL=C
new=$(mktemp)
trap 'rm -f "$new"' EXIT

"$1" | awk -F'|' -v resources=$resources '
    # A warp gets registers in units of 256 from one of four register files. A block gets shared memory in units of 128
    # bytes, and the driver takes 1 KB more.
    function blocks(sm, registers, threads, shared,    warps, by_registers, by_threads, by_shared) {
        if (shared > block_shared[sm]) return "-"
        warps = threads / 32
        by_registers = int(int(16384 / (int((registers + 7) / 8) * 256)) * 4 / warps)
        by_threads = int(sm_threads[sm] / threads)
        by_shared = int(sm_shared[sm] / (int((shared + 127) / 128) * 128 + 1024))
        if (by_threads < by_registers) by_registers = by_threads
        return by_shared < by_registers ? by_shared : by_registers
    }
    BEGIN {
        split("167936 233472 102400", sm_shared, " ")
        split("166912 232448 101376", block_shared, " ")
        split("2048 2048 1536", sm_threads, " ")
        while ((getline line < resources) > 0) {
            if (line ~ /^#/) continue
            name = substr(line, 1, 64)
            sub(/ +$/, "", name)
            split(substr(line, length(name) + 1), fields, " ")
            for (i = 1; i <= 12; ++i) of[name, i] = fields[i]
            wanted[name] = name ~ /^(flash_attention|attend_cache)/
        }
        print "# Written by `make attention-report`. For each instance of the attention kernels: threads and bytes of dynamic shared memory"
        print "# of a block; on sm_80, sm_90a and sm_120, registers and spilled bytes of a thread, static shared memory, and how many blocks"
        print "# run on a multiprocessor (-: none, since a block is too large; there the launcher takes another instance)."
        printf "%-64s %-8s %-8s %-14s %-12s %-20s %s\n", "# kernel", "threads", "dynamic", "registers", "spills", "static", "blocks"
    }
    {
        if (!(($1, 1) in of)) { print "attention-report: " $1 " is not in " resources > "/dev/stderr"; bad = 1; next }
        delete wanted[$1]
        text = ""
        for (i = 1; i <= 3; ++i) text = text (i > 1 ? " " : "") blocks(i, of[$1, i], $2, $3 + of[$1, 3 + i])
        printf "%-64s %-8s %-8s %-14s %-12s %-20s %s\n", $1, $2, $3, of[$1, 1] " " of[$1, 2] " " of[$1, 3],
               of[$1, 10] " " of[$1, 11] " " of[$1, 12], of[$1, 4] " " of[$1, 5] " " of[$1, 6], text
    }
    END {
        for (name in wanted) if (wanted[name]) { print "attention-report: nothing launched " name > "/dev/stderr"; bad = 1 }
        exit bad
    }' >"$new"

if [ "${2:-}" != --check ]; then
    cp "$new" $report
    echo "attention-report: $(grep -vc '^#' $report) instances, in $report"
elif ! diff -u $report "$new" >&2; then
    echo "attention-report: the attention kernels' resources have changed; run 'make attention-report', check the difference, and commit it" >&2
    exit 1
fi
