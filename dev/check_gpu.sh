#!/bin/bash
# `make check-gpu`: tests and measures Kiln on this machine's GPU in nine minutes, the most valuable facts first. It needs
# no network, and only what was built in BUILD. Without a GPU it prints how many tests it could not run, and succeeds.
#
# A run has a folder of its own in RESULTS. Its table.md gets a row as soon as a part ends, and each part writes its log
# there while it runs. So nothing is lost when a part fails, hangs or crashes, or when the run is cut off.
#
# PARTS="engine flash" runs only those parts. CHECK_GPU_SECONDS (540) is the time for everything. It also reads BUILD,
# CUDA, LIBRARIES (folders of shared libraries for Kiln's programs, but not for PyTorch), SHARDS (token shards of real
# text), PYTHON (one that has PyTorch), TEST_FILTER, and REPEAT (how the user starts this script).
# dev/docs/gpu.md says what the table means.
set -u
set -a  # each part is a function in a shell of its own
cd "$(dirname "$0")/.."
build=${BUILD:-build} cuda=${CUDA:-/usr/local/cuda} python=${PYTHON:-python3}
shards=${SHARDS:-$build/data/shards}
[ -e "$shards" ] || shards=runs/quickstart/shards
deadline=${CHECK_GPU_SECONDS:-540}
tests=$build/gpu/tests/cuda bench=$build/gpu/dev/bench
T=1024

# Name, seconds, what it shows. Each part is sure of its seconds, which add up to 540. What parts before it have not used
# is shared among the others in proportion. PyTorch and a run on the CPU begin after the first table, in the background:
# the parts up to `background` measure no time, and those after it have the machine for themselves.
first_parts='
start        15 the programs find their libraries and accept this GPU
step         30 ten training steps of GPT-2 124M
generate     20 trains a small model for three steps and generates 20 tokens'
parts='
engine_first 25 GPT-2 with flash attention in 16 bits, and in float32, compared with the CPU
engine       30 every other model and type, compared with the CPU
updates      10 norms, clipping and updates of the optimizer
matmul       20 matmuls by cuBLASLt
sampling     15 tokens that the GPU draws, compared with those that the CPU draws
kernels      30 each kernel, compared with the CPU
flash        25 flash attention
edges        15 flash attention at its limits
hopper       15 TMA and wgmma
facts        10 properties of the GPU, the profiler
nccl         15 sums and copies between one rank, and between two that share the GPU, where NCCL allows it
ranks        20 two ranks that share the GPU train with each ZeRO stage, compared with one rank
background   20 waits until PyTorch has compiled and the CPU has trained
gelu_0       20 a step by group of kernels, GELU not fused
gelu_1       20 the same, GELU fused into the forward matmuls
gelu_2       20 the same, GELU fused into the backward matmuls too
train_float32 15 200 steps on real text, compared with the CPU
train_16_bits 15 the same in bfloat16 (float16 on old GPUs)
pairs        30 GPT-2 124M against PyTorch: a ratio above 1 means that Kiln is faster
kernel_speed 25 the kernels of a step, compared with a copy and a matmul
attention    20 attention against PyTorch
xl           25 five training steps of GPT-2 1558M
memcheck     15 kernels read and write only their own memory
racecheck    20 no races in shared memory'
wanted() { [ -z "${PARTS:-}" ] || [[ " $PARTS " == *" $1 "* ]]; }
case " ${PARTS:-} " in *" pairs "* | *" train_"*) PARTS="background $PARTS" ;; esac
names=$(awk '{ print $1 }' <<<"$first_parts$parts" | xargs)
for name in ${PARTS:-}; do
    [[ " $names " == *" $name "* ]] || { echo "check-gpu: no part is called $name; PARTS may name: $names" >&2; exit 2; }
done

# ---- what this machine is

if ! facts=$(nvidia-smi ${CUDA_VISIBLE_DEVICES:+-i "${CUDA_VISIBLE_DEVICES%%,*}"} --format=csv,noheader,nounits \
    --query-gpu=name,driver_version,compute_cap,memory.total,memory.free 2>/dev/null); then
    count=0
    for binary in "$tests"/*_test "$tests"/*/*_test; do
        count=$((count + $(LD_LIBRARY_PATH=${LIBRARIES:-} "$binary" --gtest_list_tests 2>/dev/null | grep -c '^  ')))
    done
    echo "skipped: no GPU ($count tests need one)"
    exit 0
fi
IFS=, read -r card driver capability total_mib free_mib <<<"$(sed 's/, */,/g; q' <<<"$facts")"
sm=${capability/./}
precision=bfloat16 old= for_pytorch_mib=3072  # 2 GiB of weights and optimizer state, and its libraries
if [ "$sm" -lt 80 ]; then
    precision=float16 old="needs sm_80 or later, and this GPU is sm_$sm" for_pytorch_mib=0
fi
toolkit=$("$cuda/bin/nvcc" --version 2>/dev/null | sed -nE 's/.*release ([0-9.]+).*/\1/p')
commit=$(cat commit 2>/dev/null || git rev-parse --short HEAD 2>/dev/null)
sanitizer=$(command -v compute-sanitizer || ls "$cuda/bin/compute-sanitizer" 2>/dev/null)

folder=${RESULTS:-dev/bench/results}/$(date -u +%F-%H%M%S)-check-gpu-$(tr -cs 'a-zA-Z0-9\n' - <<<"${card,,}")
work=$(mktemp -d)
table=$folder/table.md
mkdir -p "$folder" || exit 1

# ---- the parts

kiln() { LD_LIBRARY_PATH=${LIBRARIES:-}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} "$@"; }
skip() { echo "$*"; exit 77; }  # ends the part

# The largest batch for which the engine's memory plan says that it fits, of at most $2 sequences of model $1 in $3 MiB.
# Where there is none, the reason instead.
batch() { kiln "$bench/bench_step" --model "$1" --batch-size "$2" --seq-len $T --precision $precision --fit-mib "$3" 2>&1; }
is_number() { [[ $1 =~ ^[0-9]+$ ]]; }
fits() { is_number "$1" || skip "$1"; }
B=$(batch gpt2 64 $((free_mib > for_pytorch_mib ? free_mib - for_pytorch_mib : 1)))

start() {
    local missing
    missing=$(for program in "$build"/bin/* "$bench"/bench_* "$tests"/*_test "$tests"/*/*_test; do
        kiln ldd "$program" 2>&1 | grep 'not found' | sed "s|^|$program: |"
    done)
    [ -z "$missing" ] || { echo "$missing"; exit 1; }
    kiln "$build/bin/train_gpt2cu" -e gpt2 -b 1 -t 64 --dry-run || exit 1
    echo "every library is found"
}
step_of() { fits "$2"; kiln "$bench/bench_step" --model "$1" --batch-size "$2" --seq-len $T --precision $precision "${@:3}"; }
step() { step_of gpt2 "$B" --brief --steps 10; }
xl() { step_of gpt2-xl "$(batch gpt2-xl 16 "$free_mib")" --brief --steps 5; }
by_group() {
    step_of gpt2 "$B" --steps 10 --fused-gelu "$1" | tee -a /dev/stderr |
        grep -E '^(Step|Launch gaps|Without attention|First step|Memory in use)' | paste -sd ' '
}
gelu_0() { by_group 0; }
gelu_1() { by_group 1; }
gelu_2() { by_group 2; }

has_shards() { [ -e "$shards" ] || skip "no shards in $shards; 'make quickstart' makes some"; }
generate() {
    has_shards
    kiln "$build/bin/train_gpt2cu" -i "$shards" -e gpt2:layers=2,dim=64,heads=1,ctx=64 -o "$work/generate" -b 2 -t 32 \
        -x 3 -v 0 || exit 1
    kiln "$build/bin/kilncu" generate --model "$work/generate" --prompt 春 --max-new-tokens 20 || exit 1
    echo "20 tokens generated"
}

# The tests of a program; those that this GPU cannot run are skipped. The last line of the log is for the table.
count_tests() {
    tee -a /dev/stderr | sed -nE 's/^\[  (PASSED|SKIPPED) +\] ([0-9]+) test.*/\2 \L\1/p' | paste -sd ' '
}
expect_tests() {  # ends the part if none of the tests that $1 counts passed
    case $1 in
        '' | '0 passed') echo "no test ran"; exit 1 ;;
        '0 passed '*) skip "$1: the log says why" ;;
    esac
}
run_tests() {  # PROGRAM [FILTER]
    local counted
    counted=$(OMP_WAIT_POLICY=passive kiln "$tests/$1_test" --gtest_filter="${2:-${TEST_FILTER:-*}}" | count_tests) ||
        exit $?
    expect_tests "$counted"
    echo "$counted"
}
first_models="*/gpt2_flash_$precision:*/gpt2_float32"
engine_first() { run_tests engine "$first_models"; }
engine() { run_tests engine "${TEST_FILTER:--$first_models}"; }
updates() { run_tests engine_update; }
matmul() { run_tests matmul; }
sampling() { run_tests generation; }
kernels() { run_tests kernels; }
flash() { [ -z "$old" ] || skip "$old"; run_tests flash_attention; }
edges() { [ -z "$old" ] || skip "$old"; run_tests flash_attention_edges; }
hopper() { [ "$sm" = 90 ] || skip "needs sm_90, and this GPU is sm_$sm"; run_tests hopper/hopper; }
nccl() { run_tests device_communicator "${TEST_FILTER:-*Ranks*}"; }
ranks() { run_tests ranks_engine "${TEST_FILTER:-*stage*/0:*stage*/3}"; }
facts() { run_tests gpu_facts && run_tests profile && run_tests bench/step; }

# NVIDIA's tool, on kernels whose threads share memory.
sanitize() {
    [ -n "$sanitizer" ] || skip "no compute-sanitizer in PATH or in $cuda/bin"
    local families="adamw_master cross_entropy layernorm_backward bias_backward embedding_backward sample attention_cached"
    [ -n "$old" ] || families+=" flash_attention_forward flash_attention_backward"
    local counted
    counted=$(kiln "$sanitizer" --tool "$1" --error-exitcode 1 "$tests/kernels_test" \
        --gtest_filter="${TEST_FILTER:-$(printf "*/%s_$precision:" $families)}" | count_tests) || exit $?
    expect_tests "$counted"
    echo "$counted"
}
memcheck() { sanitize memcheck; }
racecheck() { sanitize racecheck; }

# 200 steps with the same initial weights and batches on the CPU and on the GPU: the loss curves must agree.
train() {  # program, directory, options...
    kiln "$1" -i "$shards" -e llama:layers=4,dim=192,heads=6,kv_heads=3,ctx=128,multiple_of=32 -o "$2" -b 8 -t 128 \
        -x 200 -l 0.001 -u 20 -v 0 -n 0 "${@:3}"
}
losses() { sed -nE 's/.*"train_loss":([0-9.eE+-]+).*/\1/p' "$1/metrics.jsonl"; }
is_running() { [ -n "$1" ] && kill -0 "$1" 2>/dev/null; }
wait_for_cpu() {
    has_shards
    while is_running "$cpu"; do sleep 0.1; done
    [ "$(losses "$work/cpu" | wc -l)" = 200 ] || { echo "the CPU did not train: $(tail -n 1 "$folder/cpu.log")"; exit 1; }
}
train_as_the_cpu() {  # --dtype, the largest difference in per cent between the mean losses of windows of 20 steps
    wait_for_cpu
    train "$build/bin/train_gpt2cu" "$work/$1" --dtype "$1" || exit 1
    paste <(losses "$work/$1") <(losses "$work/cpu") | awk -v most="$2" '
        NF == 2 { a += $1; b += $2; n++ }
        n % 20 == 0 && NF == 2 { d = (a > b ? a - b : b - a) / b * 100; if (d > worst) worst = d
                                 if (!first) first = b; last = a; a = b = 0 }
        END { printf "loss %.3f to %.3f; at most %.2f %% from the CPU in a window of 20 steps\n", first / 20, last / 20, worst
              exit !(n == 200 && worst <= most && last < 0.8 * first) }'
}
# float32 is rounded differently than on the CPU, and training amplifies this. 16 bits also have only 8 or 11 of mantissa.
train_float32() { train_as_the_cpu float32 0.5; }
train_16_bits() { train_as_the_cpu $precision 2; }

# PyTorch's process answers each line of file descriptor 3 with a line in its log.
answers() { grep -cE '^(PyTorch .*|[0-9.]+ ms .*)$' "$folder/pytorch.log"; }
await_answer() {  # N: the N-th
    [ -z "$old" ] || skip "PyTorch's program trains in bfloat16, which $old"
    fits "$B"
    while is_running "$pytorch" && [ "$(answers)" -lt "$1" ]; do sleep 0.1; done
    [ "$(answers)" -ge "$1" ]
}
await_pytorch() { await_answer 1 || skip "no PyTorch: $(tail -n 1 "$folder/pytorch.log")"; }
background() {
    while is_running "$cpu"; do sleep 0.1; done
    wanted pairs || exit 0
    await_pytorch
    grep -m 1 '^PyTorch ' "$folder/pytorch.log"
}
milliseconds() { sed -nE 's/^([0-9.]+) ms .*/\1/p'; }
pairs() {
    await_pytorch
    local chosen batch ours theirs ratios=
    chosen=$(grep -m 1 '^PyTorch ' "$folder/pytorch.log")
    batch=${chosen##*B = }
    for n in 2 3 4; do
        ours=$(step_of gpt2 "$batch" --brief --steps 10 | milliseconds)
        [ -n "$ours" ] || exit 1
        echo go >&3
        await_answer $n || break
        theirs=$(grep -E '^[0-9.]+ ms ' "$folder/pytorch.log" | tail -n 1 | milliseconds)
        ratios+=$(awk "BEGIN { printf \"%.3f\", $theirs / $ours }")$'\n'
        echo "Kiln $ours ms, PyTorch $theirs ms"
    done
    [ -n "$ratios" ] || skip "PyTorch ended: $(tail -n 1 "$folder/pytorch.log")"
    grep . <<<"$ratios" | sort -n | awk -v last="Kiln $ours ms, PyTorch $theirs ms" -v chosen="$chosen" '
        { ratio[NR] = $1 }
        END { printf "Kiln is %.3f times as fast, the median of %d pairs; the last: %s; %s\n", ratio[int((NR + 1) / 2)], NR,
              last, chosen }'
}

kernel_speed() {
    kiln "$bench/bench_kernels" --brief --elements $precision --launches 20 --output - | tee -a /dev/stderr |
        awk '/^\| [a-z_]+ .*%/ { n++ } END { print n + 0 " kernels, in table.md"; exit !n }'
}
attention() {
    [ -z "$old" ] || skip "$old"
    # PyTorch gets the libraries of this shell, not Kiln's.
    kiln "$bench/bench_attention" --shapes 1 --rounds 3 --launches 5 --output - \
        --peer "LD_LIBRARY_PATH='${LD_LIBRARY_PATH:-}' exec '$python' dev/bench/peers/torch_attention.py" || exit 1
    echo "in table.md"
}

# ---- running them

row() { printf '| %s | %s | %s | %s | %s |\n' "$@" | tee -a "$table"; }

running=
run_parts() {  # a table of parts
    local name seconds what limit log began status said result
    while read -r name seconds what; do
        { [ -n "$name" ] && wanted "$name"; } || continue
        limit=$((seconds * (deadline - SECONDS) / left)) left=$((left - seconds)) began=$SECONDS log=$folder/$name.log
        # All that was saved: PyTorch's compiler takes a minute or more, and the tests may have been quick.
        [ "$name" != background ] || limit=$((deadline - SECONDS - left))
        if [ "$limit" -lt 1 ]; then
            row "$name" skipped 0 "$what" "no time left of $deadline s"
            continue
        fi
        timeout -k 2 "$limit" bash -o pipefail -c "$name" >>"$log" 2>&1 </dev/null &
        running="$! $name"
        wait $!
        status=$? running=
        if [ $status = 137 ] && [ $((SECONDS - began)) -ge "$limit" ]; then status=124; fi  # it did not heed SIGTERM
        # The test that failed first, else the one that was running, else the last line.
        said=$({ { [ $status != 0 ] && { grep -m 1 'FAILED  \]' "$log" || grep '\[ RUN ' "$log"; }; } || grep . "$log"; } |
            tail -n 1 | tr '|' '/' | cut -c 1-600)
        case $status in
            0) result=ok ;;
            77) result=skipped ;;
            124) result=TIMEOUT said="after $limit s: $said" ;;
            *) result=FAILED
               [ $status -le 128 ] || said="signal $(kill -l $status): $said" ;;
        esac
        row "$name" $result $((SECONDS - began)) "$what" "$said"
        case $result in FAILED | TIMEOUT) not_ok+=" $name" ;; esac
        case $name:$result in
            background:ok) ;;
            background:* | pairs:*) end_background ;;  # time is measured from now on
        esac
    done <<<"$1"
}

cpu= pytorch=
begin_background() {
    if [ -e "$shards" ] && { wanted train_float32 || wanted train_16_bits; }; then
        timeout -k 2 "$deadline" bash -c 'train "$build/bin/train_gpt2" "$work/cpu"' >"$folder/cpu.log" 2>&1 &
        cpu=$!
    fi
    if [ -z "$old" ] && is_number "$B" && wanted pairs; then
        timeout -k 2 "$deadline" "$python" dev/bench/peers/torch_gpt2.py --modes default --batch-size "$B" --steps 10 \
            >"$folder/pytorch.log" 2>&1 <"$work/ask" 3>&- &
        pytorch=$!
    fi
}
end_background() {
    kill ${running% *} $cpu $pytorch 2>/dev/null
    wait
    cpu= pytorch=
}
finish() {
    end_background
    rm -rf "$work"
}
trap finish EXIT
trap 'row "${running#* }" stopped - - "a signal stopped the whole run"; exit 143' TERM INT HUP
mkfifo "$work/ask"
exec 3<>"$work/ask"

repeat=${REPEAT:-dev/check_gpu.sh}
tee "$table" <<END
# Kiln on $card, $(date -u +%F)

- GPU: $card, sm_$sm, $total_mib MiB of memory, of which $free_mib MiB are free
- driver $driver, CUDA toolkit ${toolkit:-not found in $cuda}, Kiln ${commit:-of an unknown commit}
- batch of GPT-2 124M: $(is_number "$B" && echo "$B x $T tokens in $precision" || echo "none: $B"), by the engine's memory
  plan, with $for_pytorch_mib MiB left to PyTorch
- ok: it passed, or it was measured. FAILED: it is wrong. TIMEOUT: its time was up. skipped: the last column says why.
- PART.log next to this table is the whole output of a part. To repeat parts: \`PARTS="engine flash" $repeat\`

| part | result | seconds | what it shows | found |
|---|---|---:|---|---|
END
not_ok=
left=$(awk -v wanted=" ${PARTS:-$names} " 'index(wanted, " " $1 " ") { sum += $2 } END { print sum }' <<<"$first_parts$parts")
run_parts "$first_parts"
begin_background
run_parts "$parts"

for name in gelu_0 gelu_1 gelu_2 kernel_speed attention; do
    if grep -q "^| $name | ok " "$table"; then
        printf '\n## %s\n\n' "$name"
        sed '$d; /^# /d' "$folder/$name.log"
    fi
done >>"$table"
echo "wrote $table, the logs beside it ($SECONDS s)"
[ -z "$not_ok" ] || { echo "not ok:$not_ok; to repeat: PARTS=\"${not_ok# }\" $repeat" | tee -a "$table"; exit 1; }
