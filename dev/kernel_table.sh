#!/bin/bash
# `make kernel-table`: the registers, shared memory, stack and spills of each kernel, by ptxas, as a table for diffs.
# Arguments: the output of `nvcc -Xptxas -v` for each source; HASH and RELEASE in the environment: see kernel_hash.sh.
# Writes dev/bench/kernel_resources.txt. Fails if a kernel spills more than dev/kernel_spills.txt allows, or if that file
# lists a spill that no longer occurs.
set -eu
cd "$(dirname "$0")/.."
table=${TABLE:-dev/bench/kernel_resources.txt} spills=${SPILLS:-dev/kernel_spills.txt}
export LC_ALL=C
rows=$(mktemp)
trap 'rm -f "$rows"' EXIT

# kernel|sm|registers|static shared bytes|stack bytes|spilled bytes (stores + loads)
# c++filt prints an enum template argument as (Kind)4; only the number is kept.
cat "$@" | c++filt | sed -E 's,\(anonymous namespace\)::|kiln::,,g; s,\([A-Za-z_: ]+\)([0-9]),\1,g' | awk '
    function number_before(text) { return match($0, "[0-9]+ " text) ? substr($0, RSTART) + 0 : 0 }
    /Compiling entry function/ {
        sm = $0; sub(/.* for .sm_/, "", sm); sub(/[^0-9a-z].*/, "", sm)
        name = $0; sub(/.*entry function ./, "", name); sub(/. for .sm_.*/, "", name)
        sub(/^void /, "", name)
        sub(/\(.*/, "", name)
        stack = spilled = 0
    }
    /bytes spill stores/ { stack = number_before("bytes stack"); spilled = number_before("bytes spill stores") + number_before("bytes spill loads") }
    /Used [0-9]+ registers/ {
        match($0, /Used [0-9]+/)
        registers = substr($0, RSTART + 5, RLENGTH - 5)
        print name "|" sm "|" registers "|" number_before("bytes smem") "|" stack "|" spilled
    }' | sort -u >"$rows"
[ -s "$rows" ] || { echo "kernel-table: no kernels in: $*" >&2; exit 1; }

awk -F'|' '
    BEGIN {
        print "# Written by `make kernel-table`. What ptxas gives each kernel on sm_75, sm_80, sm_90a, sm_100 and sm_120: registers of a"
        print "# thread; bytes of static shared memory of a block; bytes of stack and of spills (stores and loads) of a thread."
        printf "%-64s %-20s %-30s %-14s %s\n", "# kernel", "registers", "shared", "stack", "spills"
    }
    function cell(what, kernel,    text, i) {
        text = ""
        for (i = 1; i <= 5; ++i) text = text (i > 1 ? " " : "") ((kernel, sms[i]) in seen ? value[what, kernel, sms[i]] : "-")
        return text
    }
    { if (!($1 in known)) { known[$1] = 1; order[++count] = $1 }
      seen[$1, $2] = 1; for (i = 3; i <= 6; ++i) value[i, $1, $2] = $i }
    END {
        split("75 80 90a 100 120", sms, " ")
        for (k = 1; k <= count; ++k)
            printf "%-64s %-20s %-30s %-14s %s\n", order[k], cell(3, order[k]), cell(4, order[k]), cell(5, order[k]), cell(6, order[k])
    }' "$rows" >"$table"
sed -i "2r /dev/stdin" "$table" <<<"$(dev/kernel_hash.sh "$table")"

# The list has lines of kernel, sm and bytes; # begins a comment.
awk -F'|' -v list="$spills" '
    BEGIN {
        while ((getline line < list) > 0) {
            sub(/#.*/, "", line)
            if (match(line, / (75|80|90a|100|120) [0-9]+/)) {
                split(substr(line, RSTART + 1), fields, " ")
                allowed[substr(line, 1, RSTART - 1) "|" fields[1]] = fields[2] + 0
            }
        }
    }
    { key = $1 "|" $2 }
    $6 > 0 && $6 > allowed[key] { printf "kernel-table: %s spills %d bytes on sm_%s, of %d in %s\n", $1, $6, $2, allowed[key], list; bad = 1 }
    $6 == 0 && allowed[key] > 0 { printf "kernel-table: %s no longer spills on sm_%s: remove it from %s\n", $1, $2, list; bad = 1 }
    END { exit bad }' "$rows" >&2
echo "kernel-table: $(wc -l <"$rows") kernels and architectures, in $table"
