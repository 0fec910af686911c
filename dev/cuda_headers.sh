#!/bin/bash
# Puts the headers of the CUDA toolkit $1 into BUILD/toolkits/$1, from the Python package index (400 to 700 MB to download).
# These packages have no nvcc. That of CCCL 12.4 lacks nv/target, which cuda_fp16.h includes; a later one has it.
set -eu
declare -A versions=(
    [12.4]="cuda-runtime-cu12==12.4.127 cuda-nvcc-cu12==12.4.131 cublas-cu12==12.4.5.8 cuda-cccl-cu12==12.9.27"
    [12.9]="cuda-runtime-cu12==12.9.79 cuda-nvcc-cu12==12.9.86 cublas-cu12==12.9.1.4 cuda-cccl-cu12==12.9.27"
)
to=$BUILD/toolkits/$1
[ ! -f "$to/include/cublasLt.h" ] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for package in ${versions[$1]}; do
    echo "check-toolkits: downloading nvidia-$package"
    python3 -m pip download --quiet --no-deps --dest "$work" "nvidia-$package"
    unzip -qo "$work/*.whl" 'nvidia/*/include/*' -d "$work"
    rm "$work"/*.whl
done
mkdir -p "$to/include"
cp -r "$work"/nvidia/cuda_*/include/. "$to/include"
cp "$work"/nvidia/cublas/include/* "$to/include"
