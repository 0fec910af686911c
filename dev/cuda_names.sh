#!/bin/sh
# The names of CUDA's runtime, driver and cuBLAS that the sources use. dev/cuda_names.txt has those of them that
# `make check-toolkits` has compiled; the lint compares the two, so that CI need not download toolkits.
cd "$(dirname "$0")/.."
git ls-files -co --exclude-standard cuda dev/bench tests/cuda | grep -E '\.(h|cpp|cu|cuh)$' | xargs sed 's,//.*,,' |
    grep -oE '\b(cuda|cublas|cu)[A-Z][A-Za-z0-9_]*|\b(CU|CUDA|CUDART|CUBLAS|CUBLASLT)_[A-Z0-9_]+' | LC_ALL=C sort -u
