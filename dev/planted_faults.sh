#!/bin/bash
# `make faults`: tests of the tests. Each line of tests/cuda/faults.txt plants one fault in a copy of a CUDA source, builds
# the kernel tests with it, and demands that they fail.
#     NAME | SOURCE | HEADER or - | FILTER | PERL SUBSTITUTION
# The substitution is applied to HEADER (a file that SOURCE includes) or else to SOURCE, and must change it.
# Reads CXX, FLAGS, LINK and BUILD from the environment; arguments are names to run alone.
set -u
cd "$(dirname "$0")/.."
work=$BUILD/faults
if ! ls "$BUILD"/simt/tests/cuda/*_test >/dev/null 2>&1; then
    echo "faults: skipped: no CUDA headers here; $(grep -c '^[a-z].*|' tests/cuda/faults.txt) faults not planted"
    exit 0
fi
mkdir -p "$work"
objects="$(echo "$BUILD"/simt/tests/cuda/*.o) $BUILD/tests/main.o"

plant() {
    local name=$1 source=$2 header=$3 filter=$4 substitution=$5
    local directory=$work/$name target=$source
    [ "$header" = - ] || target=$header
    rm -rf "$directory"
    mkdir -p "$directory/$(dirname "$target")"
    perl -0pe "$substitution" "$target" >"$directory/$target" || return 1
    if cmp -s "$target" "$directory/$target"; then
        echo "faults: $name: the substitution changes nothing in $target; mend tests/cuda/faults.txt"
        return 1
    fi
    local from=$source
    [ "$header" = - ] && from=$directory/$source
    if ! $CXX -I"$directory" $FLAGS -x c++ -c -o "$directory/fault.o" "$from" 2>"$directory/log" ||
        ! $CXX $FLAGS -o "$directory/test" "$directory/fault.o" ${objects/"$BUILD/simt/${source%.*}.o"/} $LINK 2>>"$directory/log"; then
        echo "faults: $name: does not build:"
        head -n 5 "$directory/log"
        return 1
    fi
    timeout 120 "$directory/test" --gtest_filter="$filter" --gtest_brief=1 >"$directory/log" 2>&1
    local status=$?
    if [ $status = 0 ]; then
        echo "faults: $name: NOT CAUGHT by $filter"
        return 1
    fi
    if grep -q 'Running 0 tests' "$directory/log"; then
        echo "faults: $name: no test matches $filter"
        return 1
    fi
    echo "faults: $name: caught"
    rm -f "$directory/test" "$directory/fault.o"
}

failed=0 count=0 pids=
while IFS='|' read -r name source header filter substitution; do
    name=$(echo "$name" | xargs)
    case $name in '' | '#'*) continue ;; esac
    [ $# -gt 0 ] && [[ " $* " != *" $name "* ]] && continue
    count=$((count + 1))
    plant "$name" "$(echo "$source" | xargs)" "$(echo "$header" | xargs)" "$(echo "$filter" | xargs)" \
        "$(echo "$substitution" | sed 's/^ *//')" &
    pids="$pids $!"
    [ "$(echo $pids | wc -w)" -lt "$(nproc)" ] && continue
    set_of=($pids)
    wait "${set_of[0]}" || failed=$((failed + 1))
    pids="${set_of[*]:1}"
done <tests/cuda/faults.txt
for pid in $pids; do wait "$pid" || failed=$((failed + 1)); done
echo "faults: $count planted, $((count - failed)) caught"
[ $failed = 0 ]
