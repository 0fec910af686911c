#!/bin/bash
# Trains on all GPUs of this machine. Everything after the script's name is passed to train_gpt2cu:
#   dev/launch/one_node.sh -i shards -e gpt2 -o runs/mine
# GPUS=4 uses the first four GPUs. CUDA_VISIBLE_DEVICES=2,5 GPUS=2 uses those two.
set -eu
exec "${TRAIN:-./train_gpt2cu}" --gpus "${GPUS:-all}" "$@"
