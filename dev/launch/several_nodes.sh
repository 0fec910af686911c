#!/bin/bash
# Trains on several machines, without another launcher: it starts the ranks by ssh, with the variables that torchrun
# would set. Every machine needs this directory at the same path, the same train_gpt2cu, the data, bash, and ssh without
# a password.
#   HOSTS="node1 node2" GPUS=8 dev/launch/several_nodes.sh -i /data/shards -e gpt2 -o /shared/runs/mine
# GPUS (8) is the number of GPUs of each machine. Rank 0 runs on the first host and listens on PORT (29500), which the
# other hosts must be able to reach. Ctrl-C stops all ranks, and the training is saved.
set -u
: "${HOSTS:?set HOSTS to the names of the machines, as in HOSTS=\"node1 node2\"}"
gpus=${GPUS:-8} port=${PORT:-29500} train=${TRAIN:-./train_gpt2cu}
read -ra hosts <<<"$HOSTS"
world=$((${#hosts[@]} * gpus)) id=$(date +%s)-$$
quoted=$(printf ' %q' "$train" "$@")

# Returns the exit code of a child. A signal ends a wait early, so it waits again while the child lives.
# shellcheck disable=SC2016  # the variables are expanded on the machine where the text runs
wait_for='wait_for() { wait "$1"; code=$?; while kill -0 "$1" 2>/dev/null; do wait "$1"; code=$?; done; return $code; }'
eval "$wait_for"

pids=()
for node in "${!hosts[@]}"; do
    ranks="$wait_for
        cd $(printf %q "$PWD") || exit 1
        trap 'kill -TERM \$(jobs -p) 2>/dev/null' INT TERM HUP
        for ((i = 0; i < $gpus; i++)); do
            RANK=\$(($node * $gpus + i)) WORLD_SIZE=$world LOCAL_RANK=\$i LOCAL_WORLD_SIZE=$gpus \\
            MASTER_ADDR=${hosts[0]} MASTER_PORT=$port TORCHELASTIC_RUN_ID=$id $quoted &
        done
        status=0
        for job in \$(jobs -p); do wait_for \$job || { code=\$?; [ \$status != 0 ] || status=\$code; }; done
        exit \$status"
    # With a terminal (-tt), Ctrl-C and the loss of the connection end the processes on the other machine, too.
    ssh -tt -o BatchMode=yes "${hosts[$node]}" bash -c "$(printf %q "$ranks")" </dev/null &
    pids+=($!)
done
trap 'kill -TERM "${pids[@]}" 2>/dev/null' INT TERM HUP
status=0
for pid in "${pids[@]}"; do
    wait_for "$pid" || { code=$?; [ $status != 0 ] || status=$code; }
done
exit $status
