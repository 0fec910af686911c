#pragma once
// The kernels' launchers. Row-major; N = B * T rows. T is float, __nv_bfloat16 or __half, with float32 arithmetic
// inside; pointers are to device memory, aligned to 16 bytes at the start of each row unless it says otherwise. A
// gradient output says = or +=. Every sum has a fixed order: the same input gives the same bits. Each throws Error on
// dimensions that it does not take, and queues its work on `stream` without waiting.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "cpu_reference/rng.h"

namespace kiln {

// ---- embedding.cu

// ---- norm.cu

// y = x * rstd * w, rstd = 1 / sqrt(mean(x^2) + eps). arXiv:1910.07467. x, y (N, C); w (C); rstd (N) float, may be
// null. C % 8 == 0.
template <class T>
void rmsnorm_forward(T* y, float* rstd, const T* x, const T* w, float eps, int N, int C, cudaStream_t stream);
// y = (x - mean) * rstd * w + b, rstd = 1 / sqrt(var + eps). arXiv:1607.06450. b (C); mean (N) float, may be null.
template <class T>
void layernorm_forward(T* y, float* mean, float* rstd, const T* x, const T* w, const T* b, float eps, int N, int C,
                       cudaStream_t stream);
// The same of sum = residual + branch, rounded to T. sum, residual, branch (N, C); sum may be one of the others.
template <class T>
void residual_rmsnorm_forward(T* sum, T* y, float* rstd, const T* residual, const T* branch, const T* w, float eps,
                              int N, int C, cudaStream_t stream);
template <class T>
void residual_layernorm_forward(T* sum, T* y, float* mean, float* rstd, const T* residual, const T* branch, const T* w,
                                const T* b, float eps, int N, int C, cudaStream_t stream);

// ---- rope.cu

// ---- mlp.cu

// ---- attention.cu

// ---- loss.cu

// ---- bias.cu, cast.cu, dropout.cu

// ---- adamw.cu

// ---- sample.cu

}  // namespace kiln
