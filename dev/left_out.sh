#!/bin/sh
# Says which programs `make all` leaves out here, and why. $1: the path of nvcc, or nothing; $2: that of cuBLASLt.
if [ -z "$1" ]; then
    echo "left out: train_gpt2cu, kilncu (no nvcc found; install the CUDA Toolkit, 12.4 or later, or set NVCC=)" >&2
elif [ -z "$2" ]; then
    echo "left out: train_gpt2cu, kilncu (no libcublasLt.so for $1; install the whole CUDA Toolkit)" >&2
fi
