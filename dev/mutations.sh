#!/bin/bash
# `make mutations`: mutation testing. Each line of tests/cuda/mutations.txt puts one error into a copy of a CUDA source,
# and the kernel tests built with that copy must fail.
#     NAME | SOURCE | HEADER or - | FILTER | PERL SUBSTITUTION
# The substitution changes HEADER (a file that SOURCE includes), or SOURCE if HEADER is -. FILTER selects the tests.
# So that it compiles in a third of the time, the changed copy is not optimized and lacks the element types that FILTER
# does not name (float16, if it names none); the source's own object, linked after it, has them.
# Reads CXX, FLAGS, SUPPORT, LIBRARIES, LIBS and BUILD from the environment. Arguments are names of mutations; without
# them all run, or with PART=2/3 every third one from the second on. A mutation that was caught is not run again until
# its sources or tests change.
set -u
cd "$(dirname "$0")/.."
list=tests/cuda/mutations.txt work=$BUILD/mutations
tests=$(ls "$BUILD"/emulator/tests/{cuda,emulator}/*_test.o "$BUILD"/emulator/tests/cuda/{hopper,bench}/*_test.o 2>/dev/null)
if [ -z "$tests" ]; then
    echo "mutations: skipped: no CUDA headers here; $(grep -c '^[a-z].*|' $list) mutations not tried"
    exit 0
fi
mkdir -p "$work"
objects="$tests $SUPPORT"
# When anything that is linked to a mutation changes, every mutation runs again.
linked=$(cat $objects $LIBRARIES | sha256sum)

types_left_out() {
    case $1 in
        *float32*) echo -DKILN_WITHOUT_BFLOAT16 -DKILN_WITHOUT_FLOAT16 ;;
        *bfloat16*) echo -DKILN_WITHOUT_FLOAT32 -DKILN_WITHOUT_FLOAT16 ;;
        *float16*) echo -DKILN_WITHOUT_FLOAT32 -DKILN_WITHOUT_BFLOAT16 ;;
        *) echo -DKILN_WITHOUT_FLOAT16 ;;
    esac
}

mutate() {
    local name=$1 source=$2 header=$3 filter=$4 substitution=$5
    local directory=$work/$name target=$source
    [ "$header" = - ] || target=$header
    local key
    key=$(sha256sum <<<"$linked $CXX $FLAGS $source $header $filter $substitution")
    if [ "$(cat "$directory/caught" 2>/dev/null)" = "$key" ]; then
        echo "$name" >>"$work/reused"
        return 0
    fi
    rm -rf "$directory"
    mkdir -p "$directory/$(dirname "$target")"
    perl -0pe "$substitution" "$target" >"$directory/$target" || return 1
    if cmp -s "$target" "$directory/$target"; then
        echo "mutations: $name: the substitution changes nothing in $target; correct it in $list"
        return 1
    fi
    local from=$source
    [ "$header" = - ] && from=$directory/$source
    # The first definition counts. A source with tests would register them twice.
    local linked_objects="$objects $BUILD/emulator/${source%.*}.o"
    [[ $source = *_test.cpp ]] && linked_objects=${objects/"$BUILD/emulator/${source%.*}.o"/}
    if ! $CXX -I"$directory" $FLAGS $(types_left_out "$filter") -x c++ -c -o "$directory/mutation.o" "$from" 2>"$directory/log" ||
        ! $CXX $FLAGS -s -Wl,-z,muldefs -o "$directory/test" "$directory/mutation.o" $linked_objects $LIBRARIES $LIBS \
            2>>"$directory/log"; then
        echo "mutations: $name: does not build:"
        head -n 5 "$directory/log"
        return 1
    fi
    # Most errors show in any order of the threads, so all orders run only after one has shown nothing.
    local schedules status
    for schedules in 1 3; do
        SIMT_SCHEDULES=$schedules timeout 120 "$directory/test" --gtest_filter="$filter" --gtest_brief=1 --gtest_fail_fast \
            >"$directory/log" 2>&1
        status=$?
        [ $status = 0 ] || break
    done
    if grep -q 'Running 0 tests' "$directory/log"; then
        echo "mutations: $name: no test matches $filter"
        return 1
    fi
    if grep -q 'compiled without the element type' "$directory/log"; then
        echo "mutations: $name: $filter needs an element type that the changed copy lacks; name the type in FILTER"
        return 1
    fi
    case $status in
        0) echo "mutations: $name: NOT CAUGHT by $filter"; return 1 ;;
        124) echo "mutations: $name: no result after 120 s"; return 1 ;;
        126 | 127) echo "mutations: $name: did not start:"; tail -n 3 "$directory/log"; return 1 ;;
    esac
    echo "mutations: $name: caught"
    rm -f "$directory/test" "$directory/mutation.o"
    echo "$key" >"$directory/caught"
}

part=${PART:-1/1}
failed=0 count=0 listed=0 running=0
: >"$work/reused"
while IFS='|' read -r name source header filter substitution; do
    name=$(echo "$name" | xargs)
    case $name in '' | '#'*) continue ;; esac
    [ $# -gt 0 ] && [[ " $* " != *" $name "* ]] && continue
    listed=$((listed + 1))
    [ $(((listed - ${part%/*}) % ${part#*/})) = 0 ] || continue
    count=$((count + 1))
    mutate "$name" "$(echo "$source" | xargs)" "$(echo "$header" | xargs)" "$(echo "$filter" | xargs)" \
        "$(echo "$substitution" | sed 's/^ *//')" &
    running=$((running + 1))
    [ "$running" -lt "$(nproc)" ] && continue
    wait -n || failed=$((failed + 1))
    running=$((running - 1))
done <$list
for ((; running > 0; running--)); do wait -n || failed=$((failed + 1)); done
echo "mutations: $count of $listed tried, $((count - failed)) caught, $(wc -l <"$work/reused") of these in an earlier run"
[ $failed = 0 ]
