#!/bin/bash
# Formatting, the include rule of the architecture, a ceiling of 500 lines a file, and what a library must not do.
set -u
cd "$(dirname "$0")/.."
status=0
complain() { echo "lint: $*" >&2; status=1; }

sources=$(git ls-files -co --exclude-standard | grep -E '\.(h|cpp|cu|cuh)$')
for file in $sources; do
    [ -f "$file" ] || continue
    case $file in tokenizer/unicode_tables.cpp) continue ;; esac
    clang-format --dry-run -Werror "$file" 2>/dev/null || complain "$file: not laid out by clang-format; run 'make format'"
done

for file in $(git ls-files -co --exclude-standard | grep -E '\.(h|cpp|cu|cuh|py|sh)$|^Makefile$'); do
    [ -f "$file" ] || continue
    lines=$(wc -l <"$file")
    case $file in tokenizer/unicode_tables.cpp) continue ;; esac
    [ "$lines" -le 500 ] || complain "$file: $lines lines; the ceiling is 500, split it"
done

# Who may include whom (project headers are written with their folder).
may_include() {  # $1: folder, $2: header
    case $1:$2 in
        tokenizer:tokenizer/* | tokenizer:cpu_reference/error.h) ;;
        cpu_reference:cpu_reference/*) ;;
        cuda:cuda/* | cuda:cpu_reference/error.h | cuda:cpu_reference/rng.h | cuda:cpu_reference/model_config.h) ;;
        cuda:cpu_reference/tensors.h | cuda:cpu_reference/rope_table.h) ;;
        cuda:cpu_reference/engine.h | cuda:cpu_reference/backend.h | cuda:cpu_reference/communicator.h) ;;
        cuda:cpu_reference/adamw.h | cuda:cpu_reference/dropout.h) ;;
        cuda:dev/simt/simt.h | cuda:dev/simt/hopper.h) ;;  # what a kernel sees in place of CUDA's own headers
        tools:tools/* | tools:tokenizer/* | tools:cpu_reference/*) ;;
        tests:* | dev:*) ;;
        *) return 1 ;;
    esac
}
for file in $sources; do
    [ -f "$file" ] || continue
    folder=${file%%/*}
    for header in $(sed -nE 's/^#include "([^"]+)".*/\1/p' "$file"); do
        may_include "$folder" "$header" || complain "$file: may not include $header"
    done
    case $folder in
        tokenizer | cpu_reference | cuda)
            sed 's,//.*,,' "$file" | grep -nE 'std::(cout|cerr|exit|abort)|(^|[^A-Za-z0-9_.:>])(exit|abort|printf|puts)[[:space:]]*\(' |
                sed "s,^,lint: $file: a library neither prints nor exits: ," | grep . >&2 && status=1
            ;;
    esac
done
[ $status = 0 ] && echo "lint: clean"
exit $status
