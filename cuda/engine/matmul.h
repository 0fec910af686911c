#pragma once
// Matrix products of linear layers, over cuBLASLt.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <compare>
#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <type_traits>

#include "cuda/device/handles.h"

namespace kiln {

struct MatmulOptions {
    size_t workspace_bytes = size_t(32) << 20;
    // How many of the heuristic's proposals are timed at the first use of a shape. 1: its first is taken, so that two
    // runs are sure to take the same one and to give the same bits.
    int candidates = 6;
    bool tf32 = true;  // float32 products on tensor cores, inputs rounded to 10 bits of mantissa
};

// A layer with weights w (O, I) that turns N rows of I into N rows of O. Strides: elements between rows; 0: without
// gaps.
struct Linear {
    int N, I, O;
    int in_stride = 0, out_stride = 0;  // of x and dx; of out and dout
};

// All pointers are to device memory, aligned to 16 bytes; all calls queue on `stream`. The first call of a kind makes
// its plan and, unless the stream is being captured, times the candidates, which waits for the device. The choice
// stays. One workspace serves all calls: one thread and one stream at a time. T: float, __nv_bfloat16 or __half; Out: T
// or float. Sums are float32, also where a product is split. Throws Error with the shape on what cuBLASLt refuses.
class Matmul {
public:
    explicit Matmul(const MatmulOptions& options = {});

    // out (N, O) = x (N, I) w^T + bias (O); bias null: without.
    template <class T, class Out>
    void forward(Out* out, const T* x, const T* w, const std::type_identity_t<Out>* bias, const Linear& layer,
                 cudaStream_t stream);
    // out = gelu(kept), tanh form; kept (N, O), without gaps, = x w^T + bias. O % 8 == 0.
    template <class T>
    void forward_gelu(T* out, T* kept, const T* x, const T* w, const std::type_identity_t<T>* bias, const Linear& layer,
                      cudaStream_t stream);

    // dx (N, I) = dout (N, O) w.
    template <class T>
    void backward_input(T* dx, const T* dout, const T* w, const Linear& layer, cudaStream_t stream);
    // The same for a layer whose x was gelu(kept): dkept (N, I) = (dout w) * gelu'(kept); db (I) = its column sums: the
    // bias gradient of the layer before; null: without. kept (N, I) without gaps. I % 8 == 0.
    template <class T>
    void backward_input_gelu(T* dkept, std::type_identity_t<T>* db, const T* dout, const T* w, const T* kept,
                             const Linear& layer, cudaStream_t stream);

    // dw (O, I) =|+= dout^T x (by accumulate); db (O) = the column sums of dout, null: without. The epilogue that sums
    // them can only assign: with accumulate, db must be null, and is bias_backward's.
    template <class T, class Out>
    void backward_weight(Out* dw, std::type_identity_t<Out>* db, const T* dout, const T* x, const Linear& layer,
                         bool accumulate, cudaStream_t stream);

    size_t plans() const { return plans_.size(); }  // kinds of calls so far
    size_t timed() const { return timed_; }         // candidates that were timed so far

private:
    // A column-major product D (m, n) = op(A) op(B) + beta C, with C = D.
    struct Key {
        int m, n, k, lda, ldb, ldd;
        cudaDataType type, out_type;
        bool transpose_a, transpose_b, accumulate;
        cublasLtEpilogue_t epilogue;
        auto operator<=>(const Key&) const = default;
    };
    struct Pointers {
        const void *a, *b;
        void *d, *bias, *aux;
    };
    struct Plan;
    struct PlanDeleter {
        void operator()(Plan* plan) const;
    };

    void multiply(const Key& key, const Pointers& pointers, cudaStream_t stream);
    Plan& plan_for(const Key& key, const Pointers& pointers, cudaStream_t stream);
    void choose_fastest(Plan& plan, const Key& key, const Pointers& pointers, cudaStream_t stream);
    void run(const Plan& plan, const cublasLtMatmulAlgo_t& algorithm, const Key& key, const Pointers& pointers,
             cudaStream_t stream);
    static std::string text_of(const Key& key);

    MatmulOptions options_;
    CublasLt handle_;
    DeviceBuffer<unsigned char> workspace_;
    std::map<Key, std::unique_ptr<Plan, PlanDeleter>> plans_;
    size_t timed_ = 0;
};

}  // namespace kiln
