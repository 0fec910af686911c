#!/bin/bash
# `run` of a bundle (dev/gpu_bundle.sh): all tests and measurements of Kiln on a GPU, in 9 minutes. The results are a folder in
# RESULTS (results/ in the bundle).
results=$(realpath -m "${RESULTS:-$(dirname "$0")/results}")
cd "$(dirname "$0")" || exit 1
nvidia-smi -L 2>/dev/null | grep -q GPU || {
    echo "run: nvidia-smi lists no GPU here: copy this folder to a machine with an NVIDIA GPU and its driver" >&2
    exit 1
}
if [ ! -e unpacked ]; then
    tar -xJf programs.tar.xz 2>/dev/null ||
        python3 -c 'import tarfile; tarfile.open("programs.tar.xz").extractall()' || exit 1
    touch unpacked
fi
cuda=${CUDA:-/usr/local/cuda}
# cuBLASLt and the CUDA runtime: CUDA's, or those that PyTorch has brought. Only Kiln's programs get these folders.
libraries=$PWD/lib
pytorchs=$("${PYTHON:-python3}" -c 'import glob, sys; print(*(d for p in sys.path for d in glob.glob(p + "/nvidia/*/lib")))' 2>/dev/null)
for library in libcublasLt.so.13 libcudart.so.13; do
    found=
    for folder in "$cuda/lib64" $pytorchs; do
        if [ -z "$found" ] && [ -e "$folder/$library" ]; then found=$folder; fi
    done
    [ -n "$found" ] || { echo "run: no $library in $cuda/lib64 or with PyTorch: set CUDA to the folder of a CUDA Toolkit 13" >&2; exit 1; }
    libraries+=:$found
done
# NCCL, if there is one.
for folder in "$cuda/lib64" $pytorchs; do [ ! -e "$folder/libnccl.so.2" ] || libraries+=:$folder; done
BUILD=$PWD CUDA=$cuda LIBRARIES=$libraries RESULTS=$results REPEAT=$0 exec dev/check_gpu.sh
