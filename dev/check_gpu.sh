#!/bin/bash
# `make check-gpu`: all tests and measurements of Kiln on a machine with a GPU, in one table. Without a GPU it prints how many
# tests it could not run, and succeeds. It needs no network and only what was built in BUILD.
# It reads BUILD, CUDA, TEST_FILTER, CHECK_GPU_SECONDS (480: after that no part starts, and a running part is stopped),
# RESULTS (the directory of the table), SHARDS (token shards of real text, to compare training with the CPU), PYTHON (a Python
# with PyTorch) and PYTHON_LIBRARIES (the LD_LIBRARY_PATH of that Python, if it differs from that of the programs).
set -u
cd "$(dirname "$0")/.."
build=${BUILD:-build} results=${RESULTS:-dev/bench/results} python=${PYTHON:-python3}
shards=${SHARDS:-$build/data/shards}
deadline=${CHECK_GPU_SECONDS:-480}
tests=$build/gpu/tests/cuda bench=$build/gpu/dev/bench

count=0
for binary in "$tests"/*_test "$tests"/*/*_test; do
    said=$("$binary" --gtest_list_tests 2>&1)
    n=$(grep -c '^  ' <<<"$said")
    [ "$n" -gt 0 ] || { echo "check-gpu: $binary lists no tests: $said; run 'make check-gpu'" >&2; exit 1; }
    count=$((count + n))
done
if ! nvidia-smi -L 2>/dev/null | grep -q GPU; then
    echo "skipped: no GPU ($count tests need one)"
    exit 0
fi

device=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | head -n 1)
work=$(mktemp -d)
trap 'rm -rf "$work"; [ -z "${torch_pid:-}" ] || kill "$torch_pid" 2>/dev/null' EXIT
mkdir -p "$results"
table=$results/$(date -u +%F)-GPU.md
printf '# make check-gpu on %s, %s\n\n| part | result | s | |\n|---|---|---:|---|\n' "$device" "$(date -u +%F)" | tee "$table"
failed=0

row() {  # part, result, seconds, note
    printf '| %s | %s | %s | %s |\n' "$1" "$2" "$3" "$4" | tee -a "$table"
    [ "$2" != FAILED ] || failed=1
}

# part NAME SECONDS COMMAND...: runs the command for at most SECONDS; $log is the file of its output. $note makes the note of
# the row from that file.
part() {
    local name=$1 limit=$2 left=$((deadline - SECONDS)) start=$SECONDS
    shift 2
    log=$work/$(tr -c 'a-zA-Z0-9\n' - <<<"$name")
    if [ "$left" -lt 5 ]; then row "$name" skipped 0 "no time left of $deadline s"; return 1; fi
    [ "$limit" -le "$left" ] || limit=$left
    if ! command -v "$1" >/dev/null; then row "$name" skipped 0 "$1 was not found"; return 1; fi
    timeout -k 5 "$limit" "$@" >"$log" 2>&1
    local status=$?
    case $status in
        0) row "$name" ok $((SECONDS - start)) "$(${note:-true} "$log")" ;;
        124 | 137) row "$name" "stopped" $((SECONDS - start)) "after $limit s" ;;
        *) row "$name" FAILED $((SECONDS - start)) "exit code $status: $({ grep -m 1 'FAILED  \]' "$log" || tail -n 1 "$log"; } | tr '|' '/')"
           head -n 60 "$log" >&2 ;;
    esac
    return $status
}

last_tests() { sed -nE 's/^\[  PASSED  \] ([0-9]+) test.*/\1 passed/p' "$1"; }
note=last_tests
for name in gpu_facts hopper/hopper profile matmul kernels flash_attention flash_attention_edges engine bench/step; do
    binary=$tests/${name}_test
    part "${name##*/} tests" 90 "$binary" --gtest_brief=1 ${TEST_FILTER:+--gtest_filter="$TEST_FILTER"}
done

# 200 steps on real text on the GPU and on the CPU, with the same initial weights and batches. The loss curves must agree.
train() {  # program, directory, options...
    local program=$1 directory=$2
    shift 2
    "$program" -i "$shards" -e llama:layers=4,dim=192,heads=6,kv_heads=3,ctx=128,multiple_of=32 -o "$directory" -b 8 \
        -t 128 -x 200 -l 0.001 -u 20 -v 0 -n 0 "$@"
}
losses() { sed -nE 's/.*"train_loss":([0-9.eE+-]+).*/\1/p' "$1/metrics.jsonl"; }
compare_curves() {  # the largest difference in per cent between the mean losses of the two in windows of 20 steps
    paste <(losses "$1") <(losses "$2") | awk -v most="$3" '
        NF == 2 { a += $1; b += $2; n++ }
        n % 20 == 0 && NF == 2 { d = (a > b ? a - b : b - a) / b * 100; if (d > worst) worst = d
                                 if (!first) first = b; last = a; a = b = 0 }
        END { printf "loss %.3f to %.3f; at most %.2f %% from the CPU in a window of 20 steps\n", first / 20, last / 20, worst
              exit !(n == 200 && worst <= most && last < 0.8 * first) }'
}
export -f train losses compare_curves
export shards
note=true
if [ ! -e "$shards" ]; then
    row "200 steps compared with the CPU" skipped 0 "no shards in $shards; 'make quickstart' makes some in runs/quickstart/shards"
elif part "200 steps on the CPU" 60 bash -c "train '$build/bin/train_gpt2' '$work/cpu'"; then
    for precision in float32 bfloat16; do
        # float32 is rounded differently than on the CPU, and training amplifies this. bfloat16 also has only 8 bits.
        [ $precision = float32 ] && most=0.5 || most=2
        note='tail -n 1'
        part "200 steps in $precision" 40 bash -o pipefail -c "train '$build/bin/train_gpt2cu' '$work/$precision' \
            --dtype $precision && compare_curves '$work/$precision' '$work/cpu' $most"
    done
fi

step() {  # NAME OPTIONS...: runs bench_step; its table is appended below the main table
    local name=$1
    shift
    note=step_note
    part "$name" 90 "$bench/bench_step" "$@" && { echo; cat "$log"; } >>"$work/breakdowns"
}
step_note() { sed -nE 's/^(Step: .*|Launch gaps: .*|Without attention.*|First step.*|Memory in use.*)/\1/p' "$1" | tr '\n' ' '; }
step "GPT-2 124M, a step" --model gpt2
step "GPT-2 1558M, a step" --model gpt2-xl --batch-size 16 --steps 5
step "llama-tiny, a step" --model llama-tiny --batch-size 8 --seq-len 256

# Interleaved with one process of PyTorch, so that PyTorch compiles only once.
figure() { sed -nE 's/^([0-9.]+) ms.*/\1/p' <<<"$1"; }
middle() { tr ' ' '\n' <<<"$*" | grep . | sort -n | sed -n "$((($# + 1) / 2))p"; }
against_torch() {
    local start=$SECONDS left said kiln=() peer=()
    local name="124M against PyTorch"
    left=$((deadline - SECONDS - 30))
    local libraries=${PYTHON_LIBRARIES-${LD_LIBRARY_PATH:-}}
    if ! LD_LIBRARY_PATH=$libraries "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
        row "$name" skipped 0 "no PyTorch with CUDA in $python"
        return
    fi
    if [ "$left" -lt 60 ]; then row "$name" skipped 0 "no time left of $deadline s"; return; fi
    trap '' PIPE  # the process may die
    coproc TORCH { LD_LIBRARY_PATH=$libraries exec "$python" dev/bench/peers/torch_gpt2.py 2>"$work/torch"; }
    torch_pid=$TORCH_PID
    local in=${TORCH[1]} out=${TORCH[0]}
    if ! read -r -t "$left" said <&"$out"; then
        row "$name" skipped $((SECONDS - start)) "torch_gpt2.py did not start: $(tail -n 1 "$work/torch" | tr '|' '/')"
        kill "$torch_pid" 2>/dev/null
        torch_pid=
        return
    fi
    for _ in 1 2 3 4 5; do
        [ $((deadline - SECONDS)) -gt 20 ] || break
        local line
        line=$(timeout 60 "$bench/bench_step" --brief --steps 20) || { failed=1; break; }
        kiln+=("$(figure "$line")")
        echo go >&"$in" && read -r -t 60 line <&"$out" || break
        peer+=("$(figure "$line")")
    done
    kill "$torch_pid" 2>/dev/null
    wait "$torch_pid" 2>/dev/null
    torch_pid=
    if [ ${#peer[@]} = 0 ]; then row "$name" FAILED $((SECONDS - start)) "no pair of measurements"; return; fi
    local a b
    a=$(middle "${kiln[@]}") b=$(middle "${peer[@]}")
    row "$name" ok $((SECONDS - start)) "Kiln $a ms, PyTorch $b ms: $(awk "BEGIN { printf \"%.3f\", $b / $a }") times as fast, medians of ${#peer[@]} pairs; $said"
}
against_torch

note='tail -n 1'
part "kernel benchmarks" 90 "$bench/bench_kernels" --launches 20 --output - && { echo; cat "$log"; } >>"$work/breakdowns"

part "attention against PyTorch" 90 env PYTHON="$python" "$bench/bench_attention" --rounds 3 --launches 5 --output - &&
    { echo; cat "$log"; } >>"$work/breakdowns"

# Not the matmul tests, because their kernels are NVIDIA's.
sanitizer=$(command -v compute-sanitizer || ls "${CUDA:-/usr/local/cuda}/bin/compute-sanitizer" 2>/dev/null)
note=last_tests
for tool in memcheck racecheck; do
    for name in hopper/hopper kernels; do
        if [ -z "$sanitizer" ]; then row "$tool, ${name##*/} tests" skipped 0 "no compute-sanitizer"; continue; fi
        part "$tool, ${name##*/} tests" 60 "$sanitizer" --tool $tool --error-exitcode 1 "$tests/${name}_test" --gtest_brief=1 \
            --gtest_filter="${TEST_FILTER:-*bfloat16*:Hopper*}"
    done
done
if [ -e "$work/breakdowns" ]; then cat "$work/breakdowns" >>"$table"; fi
echo "wrote $table ($SECONDS s)"
exit $failed
