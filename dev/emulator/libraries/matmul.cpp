#include "dev/emulator/libraries/matmul.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "cuda/device/convert.h"

namespace simt {

namespace {

using kiln::from_float, kiln::to_float;

float load(const void* p, cudaDataType type, int64_t i) {
    switch (type) {
        case CUDA_R_16BF: return to_float(static_cast<const __nv_bfloat16*>(p)[i]);
        case CUDA_R_16F: return to_float(static_cast<const __half*>(p)[i]);
        default: return static_cast<const float*>(p)[i];
    }
}
void store(void* p, cudaDataType type, int64_t i, float value) {
    switch (type) {
        case CUDA_R_16BF: static_cast<__nv_bfloat16*>(p)[i] = from_float<__nv_bfloat16>(value); break;
        case CUDA_R_16F: static_cast<__half*>(p)[i] = from_float<__half>(value); break;
        default: static_cast<float*>(p)[i] = value;
    }
}
// Rounds to the 10 bits of TF32, ties away from zero, like cvt.rna.tf32.
float round_to_tf32(float x) {
    return std::isfinite(x) ? std::bit_cast<float>((std::bit_cast<uint32_t>(x) + 0x1000u) & ~0x1fffu) : x;
}

constexpr float kSqrt2OverPi = 0.7978845608f, kCubic = 0.044715f;
float gelu(float x) {
    return 0.5f * x * (1 + std::tanh(kSqrt2OverPi * (x + kCubic * x * x * x)));
}
float gelu_slope(float x) {
    const float t = std::tanh(kSqrt2OverPi * (x + kCubic * x * x * x));
    return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * kSqrt2OverPi * (1 + 3 * kCubic * x * x);
}

// Panels of kRows rows of A and kColumns columns of B, so that the sums of the inner loop stay in registers.
constexpr int kRows = 16, kColumns = 4;
// Small matmuls are faster on one thread. ThreadSanitizer does not know the barriers of OpenMP.
bool is_worth_threads(const MatmulProblem& p) {
#ifdef SIMT_TSAN
    return p.m < 0;
#else
    return double(p.m) * double(p.n) * double(p.k) > 1e7;
#endif
}

// op(X) as panels of width x k elements along its side of `count` elements, with zeros at the end. The terms of a sum
// lie in the order in which they are added.
std::vector<float> panels(const MatmulProblem& p, const Operand& x, bool along_rows, int64_t count, int width,
                          int64_t start) {
    const int64_t k = p.k;
    const int64_t padded = (count + width - 1) / width * width;
    std::vector<float> packed(size_t(padded * k));
    // The index of element (i, l), with l along k, is i + l ld or l + i ld.
    const bool unit = along_rows ? !x.transposed : x.transposed;
#pragma omp parallel for if (is_worth_threads(p))
    for (int64_t first = 0; first < count; first += width) {
        for (int64_t l = 0; l < k; ++l) {
            const int64_t term = l + start < k ? l + start : l + start - k;
            for (int64_t i = first; i < std::min(first + width, count); ++i) {
                const float value = load(x.data, x.type, unit ? i + term * x.ld : term + i * x.ld);
                packed[size_t(first * k + l * width + i - first)] = p.tf32 ? round_to_tf32(value) : value;
            }
        }
    }
    return packed;
}

void multiply_panels(float* out, const float* a, const float* b, int64_t k, int64_t run) {
    float sum[kColumns][kRows] = {};
    for (int64_t begin = 0; begin < k; begin += run) {
        float part[kColumns][kRows] = {};
        for (int64_t l = begin; l < std::min(begin + run, k); ++l) {
            for (int j = 0; j < kColumns; ++j) {
                for (int i = 0; i < kRows; ++i) part[j][i] += a[l * kRows + i] * b[l * kColumns + j];
            }
        }
        for (int j = 0; j < kColumns; ++j) {
            for (int i = 0; i < kRows; ++i) sum[j][i] += part[j][i];
        }
    }
    std::memcpy(out, sum, sizeof sum);
}

// op(A) op(B) as (n, m) floats with m contiguous.
std::vector<float> multiply(const MatmulProblem& p, const std::vector<float>& a, const std::vector<float>& b,
                            int64_t run) {
    std::vector<float> result(size_t(p.m * p.n));
#pragma omp parallel for if (is_worth_threads(p))
    for (int64_t j0 = 0; j0 < p.n; j0 += kColumns) {
        for (int64_t i0 = 0; i0 < p.m; i0 += kRows) {
            float tile[kColumns * kRows];
            multiply_panels(tile, &a[size_t(i0 * p.k)], &b[size_t(j0 * p.k)], p.k, run);
            for (int64_t j = j0; j < std::min(j0 + kColumns, p.n); ++j) {
                for (int64_t i = i0; i < std::min(i0 + kRows, p.m); ++i) {
                    result[size_t(j * p.m + i)] = tile[(j - j0) * kRows + i - i0];
                }
            }
        }
    }
    return result;
}

void finish(const MatmulProblem& p, const std::vector<float>& sums) {
    const bool adds_bias = (p.epilogue & CUBLASLT_EPILOGUE_BIAS) != 0;
    const bool applies_gelu = (p.epilogue & CUBLASLT_EPILOGUE_GELU) != 0;
    for (int64_t j = 0; j < p.n; ++j) {
        for (int64_t i = 0; i < p.m; ++i) {
            float x = p.alpha * sums[size_t(j * p.m + i)];
            if (p.beta != 0) x += p.beta * load(p.c.data, p.c.type, j * p.c.ld + i);
            if (adds_bias) x += load(p.bias, p.d_type, i);
            if (applies_gelu) {
                store(p.aux, p.d_type, j * p.aux_ld + i, x);
                x = gelu(x);
            }
            if (p.epilogue == CUBLASLT_EPILOGUE_DGELU) x *= gelu_slope(load(p.aux, p.d_type, j * p.aux_ld + i));
            store(p.d, p.d_type, j * p.d_ld + i, x);
        }
    }
}

}  // namespace

size_t element_bytes(cudaDataType type) {
    return type == CUDA_R_32F ? 4 : 2;
}

void run(const MatmulProblem& p, const SumOrder& order) {
    const auto a = panels(p, p.a, true, p.m, kRows, order.start);
    const auto b = panels(p, p.b, false, p.n, kColumns, order.start);
    finish(p, multiply(p, a, b, order.run));
}

std::function<void(size_t)>& matmul_runs() {
    static std::function<void(size_t)> hook;
    return hook;
}

std::function<bool(const MatmulProblem&, size_t)>& matmul_fails() {
    static std::function<bool(const MatmulProblem&, size_t)> fails;
    return fails;
}

}  // namespace simt
