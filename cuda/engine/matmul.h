#pragma once
// The matmuls of linear layers, through cuBLASLt.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <chrono>
#include <compare>
#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "cuda/device/handles.h"

namespace kiln {

struct MatmulOptions {
    size_t workspace_bytes = size_t(32) << 20;
    // How many algorithms of the heuristic are timed at the first use of a shape. With 1 the first that can be launched
    // is taken without timing, so that two runs always take the same algorithm and give the same bits.
    int candidates = 6;
    // For how long the first timing launches before it measures: an idle GPU needs time to raise its clocks.
    std::chrono::milliseconds warm_up{20};
    bool tf32 = true;  // float32 matmuls on tensor cores, inputs rounded to 10 bits of mantissa
};

// A layer with weights w (O, I), which maps N rows of I elements to N rows of O elements.
struct Linear {
    int N, I, O;
};

// All pointers are to device memory, aligned to 16 bytes. All calls queue on `stream`. The first call of a kind makes
// its plan and times the candidates, which waits for the device, so it must not be captured. Later calls keep the
// choice. All calls share one workspace, so only one thread and one stream may use it at a time. T: float,
// __nv_bfloat16 or __half; Out: T or float. Sums are float32, also when cuBLASLt splits a sum. The order of a sum
// depends on the algorithm and so on all of N, I and O: an element may have other bits when N is another. Throws Error
// with the shape if cuBLASLt refuses it, if every algorithm fails at its launch, or if the first call is captured.
class Matmul {
public:
    explicit Matmul(const MatmulOptions& options = {});

    // out (N, O) = x (N, I) w^T + bias (O), or without bias if it is null.
    template <class T, class Out>
    void forward(Out* out, const T* x, const T* w, const std::type_identity_t<Out>* bias, const Linear& layer,
                 cudaStream_t stream);
    // out = gelu(kept), tanh form; kept (N, O) = x w^T + bias. O % 8 == 0.
    template <class T>
    void forward_gelu(T* out, T* kept, const T* x, const T* w, const std::type_identity_t<T>* bias, const Linear& layer,
                      cudaStream_t stream);

    // dx (N, I) = dout (N, O) w.
    template <class T>
    void backward_input(T* dx, const T* dout, const T* w, const Linear& layer, cudaStream_t stream);
    // For a layer with x = gelu(kept): dkept (N, I) = (dout w) * gelu'(kept). I % 8 == 0.
    template <class T>
    void backward_input_gelu(T* dkept, const T* dout, const T* w, const T* kept, const Linear& layer,
                             cudaStream_t stream);

    // dw (O, I) = or += (accumulate) dout^T x.
    template <class T, class Out>
    void backward_weight(Out* dw, const T* dout, const T* x, const Linear& layer, bool accumulate, cudaStream_t stream);

    // While this lives, the plan of a new kind of call takes the library's first algorithm without timing: for shapes
    // that come up once. These plans are not those of other calls.
    class Untimed {
    public:
        explicit Untimed(Matmul& matmul) : matmul_(matmul) { matmul_.untimed_ = true; }
        ~Untimed() { matmul_.untimed_ = false; }
        Untimed(const Untimed&) = delete;
        Untimed& operator=(const Untimed&) = delete;

    private:
        Matmul& matmul_;
    };

    size_t plans() const { return plans_.size(); }  // kinds of calls so far
    size_t timed() const { return timed_; }         // candidates that were timed so far

private:
    // A column-major matmul D (m, n) = op(A) op(B) + beta D.
    struct Key {
        int m, n, k;
        cudaDataType type, out_type;
        bool transpose_a = false, transpose_b = false, accumulate = false;
        cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
        bool untimed = false;
        auto operator<=>(const Key&) const = default;
    };
    struct Pointers {
        const void *a, *b;
        void* d;
        const void *bias = nullptr, *aux = nullptr;
    };
    struct Plan;

    template <class T, class Out>
    static Key key_of(int m, int n, int k);
    void multiply(Key key, const Pointers& pointers, cudaStream_t stream);
    Plan& plan_for(const Key& key, const Pointers& pointers, cudaStream_t stream);
    void find_algorithms(Plan& plan, const Key& key);
    void sort_by_time(Plan& plan, const Key& key, const Pointers& pointers, cudaStream_t stream);
    bool launch(Plan& plan, const cublasLtMatmulAlgo_t& algorithm, const Key& key, const Pointers& pointers,
                cudaStream_t stream);
    static void set_epilogue_pointers(const Plan& plan, const Pointers& pointers);
    static std::string text_of(const Key& key);

    MatmulOptions options_;
    CublasLt handle_;
    DeviceBuffer<unsigned char> workspace_;
    std::map<Key, std::shared_ptr<Plan>> plans_;
    size_t timed_ = 0;
    bool untimed_ = false;
};

}  // namespace kiln
