#!/bin/sh
# Says which programs `make all` leaves out here, and why. $1: the path of nvcc, or nothing.
if [ -z "$1" ]; then
    echo "left out: train_gpt2cu, kilncu (no nvcc found; install the CUDA Toolkit 13 or set NVCC=)" >&2
else
    echo "left out: train_gpt2cu, kilncu (nvcc is here, but this version of Kiln has no CUDA engine)" >&2
fi
