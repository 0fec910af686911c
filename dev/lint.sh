#!/bin/bash
# Formatting, the include rule of the architecture, a ceiling of 500 lines a file, and what a library must not do.
set -u
cd "$(dirname "$0")/.."
status=0
complain() { echo "lint: $*" >&2; status=1; }

sources=$(git ls-files -co --exclude-standard | grep -E '\.(h|cpp|cu|cuh)$')
for file in $sources; do
    [ -f "$file" ] || continue
    case $file in tokenizer/unicode/tables.cpp) continue ;; esac
    clang-format --dry-run -Werror "$file" 2>/dev/null || complain "$file: not laid out by clang-format; run 'make format'"
done

for file in $(git ls-files -co --exclude-standard | grep -E '\.(h|cpp|cu|cuh|py|sh)$|^Makefile$'); do
    [ -f "$file" ] || continue
    lines=$(wc -l <"$file")
    case $file in tokenizer/unicode/tables.cpp) continue ;; esac
    [ "$lines" -le 500 ] || complain "$file: $lines lines; the ceiling is 500, split it"
done

# Who may include whom (project headers are written with their folder). $1: the file, $2: the header.
may_include() {
    # A folder's private headers: what kernels share, the emulator's insides, hashes.
    case $2 in
        cuda/kernels/*.cuh) case $1 in cuda/kernels/* | tests/* | dev/*) ;; *) return 1 ;; esac ;;
        dev/emulator/core/internal.h | dev/emulator/core/worker.h | dev/emulator/core/fiber.h)
            case $1 in dev/* | tests/*) ;; *) return 1 ;; esac ;;
        tokenizer/bpe/hash.h) case $1 in tokenizer/bpe/*) ;; *) return 1 ;; esac ;;
    esac
    case $1:$2 in
        tokenizer/*:tokenizer/* | tokenizer/*:cpu_reference/interface/error.h) ;;
        cpu_reference/*:cpu_reference/*) ;;
        cuda/*:cuda/* | cuda/*:cpu_reference/interface/*) ;;
        cuda/*:dev/emulator/core/simt.h | cuda/*:dev/emulator/core/hopper.h) ;;  # in place of CUDA's own headers
        tools/*:tools/* | tools/*:tokenizer/* | tools/*:cpu_reference/interface/*) ;;
        tests/*:* | dev/*:*) ;;
        *) return 1 ;;
    esac
}
for file in $sources; do
    [ -f "$file" ] || continue
    folder=${file%%/*}
    for header in $(sed -nE 's/^#include "([^"]+)".*/\1/p' "$file"); do
        may_include "$file" "$header" || complain "$file: may not include $header"
    done
    case $folder in
        tokenizer | cpu_reference | cuda)
            sed 's,//.*,,' "$file" | grep -nE 'std::(cout|cerr|exit|abort)|(^|[^A-Za-z0-9_.:>])(exit|abort|printf|puts)[[:space:]]*\(' |
                sed "s,^,lint: $file: a library neither prints nor exits: ," | grep . >&2 && status=1
            ;;
    esac
done
# A test program that no wildcard of the makefiles matches would never run.
makefiles=$(make -pn 2>/dev/null)
built=$(sed -n 's/^TESTS := //p' <<<"$makefiles" | tr ' ' '\n' | sed -E 's,^.*/tests/,tests/,; s/$/.cpp/')
unbuilt=$(git ls-files -co --exclude-standard 'tests/*_test.cpp' | grep -vxF "$built")
# The emulator's tests need CUDA's headers.
grep -q '^CUDA_HEADERS := .' <<<"$makefiles" || unbuilt=$(grep -vE '^tests/(cuda|emulator)/' <<<"$unbuilt")
for file in $unbuilt; do
    complain "$file: no makefile builds it; move it to a folder that dev/make/tests.mk names"
done
# A kernel without a mutation has a test that nobody has seen fail.
for file in $(git ls-files -co --exclude-standard 'cuda/kernels/*.cu'); do
    [ ! -f "$file" ] || grep -q "| $file |" tests/cuda/mutations.txt ||
        complain "$file: has no line in tests/cuda/mutations.txt"
done
# A precompiled header hides a missing include, and the build for a GPU has no precompiled header.
for file in $(git grep -lE '\b(EXPECT|ASSERT)_[A-Z]+\(|\bTEST(_F|_P)?\(' -- 'tests/*.cpp' 'tests/*.h'); do
    headers=$(sed -n 's/^#include "\(tests\/.*\)"/\1/p' "$file")
    grep -q '<gtest/gtest.h>' "$file" $headers || complain "$file: uses GoogleTest without its header"
done
# Kiln builds with CUDA 12.4 too.
for name in $(dev/cuda_names.sh | grep -vxFf dev/cuda_names.txt); do
    complain "$name: not in dev/cuda_names.txt; 'make check-toolkits' tries it with older toolkits, and lists it"
done
[ $status = 0 ] && echo "lint: clean"
exit $status
