#!/bin/bash
# All GPUs of this machine. Everything after the script's name is for train_gpt2cu:
#   dev/launch/one_node.sh -i shards -e gpt2 -o runs/mine
# GPUS=4 uses the first four. CUDA_VISIBLE_DEVICES=2,5 GPUS=2 chooses them.
set -eu
exec "${TRAIN:-./train_gpt2cu}" --gpus "${GPUS:-all}" "$@"
