#include "cuda/engine/matmul.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "cpu_reference/interface/error.h"

namespace kiln {
namespace {

constexpr size_t kAlignment = 16;                 // of every pointer; cuBLASLt's tensor core kernels need it
constexpr int kTimedLaunches = 3;                 // after one to warm up
constexpr size_t kMemoryLeft = size_t(64) << 20;  // beside what a trial takes

template <class T>
constexpr cudaDataType kTypeOf = std::is_same_v<T, float>           ? CUDA_R_32F
                                 : std::is_same_v<T, __nv_bfloat16> ? CUDA_R_16BF
                                                                    : CUDA_R_16F;
size_t bytes_of(cudaDataType type) {
    return type == CUDA_R_32F ? 4 : 2;
}
const char* name_of(cudaDataType type) {
    return type == CUDA_R_32F ? "float32" : type == CUDA_R_16BF ? "bfloat16" : "float16";
}
const char* name_of(cublasLtEpilogue_t epilogue) {
    switch (epilogue) {
        case CUBLASLT_EPILOGUE_BIAS:
            return ", bias";
        case CUBLASLT_EPILOGUE_GELU_AUX:
            return ", GELU";
        case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
            return ", bias and GELU";
        case CUBLASLT_EPILOGUE_DGELU:
            return ", gradient of GELU";
        case CUBLASLT_EPILOGUE_DGELU_BGRAD:
            return ", gradients of GELU and bias";
        case CUBLASLT_EPILOGUE_BGRADB:
            return ", bias gradient";
        default:
            return "";
    }
}

class Layout {
public:
    Layout(cudaDataType type, int rows, int cols, int ld) {
        CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&layout_, type, uint64_t(rows), uint64_t(cols), ld));
    }
    Layout(Layout&& other) noexcept : layout_(std::exchange(other.layout_, nullptr)) {}
    ~Layout() {
        if (layout_) cublasLtMatrixLayoutDestroy(layout_);
    }
    operator cublasLtMatrixLayout_t() const { return layout_; }

private:
    cublasLtMatrixLayout_t layout_ = nullptr;
};

class Operation {
public:
    explicit Operation(cublasComputeType_t compute) {
        CUBLAS_CHECK(cublasLtMatmulDescCreate(&operation_, compute, CUDA_R_32F));
    }
    Operation(Operation&& other) noexcept : operation_(std::exchange(other.operation_, nullptr)) {}
    ~Operation() {
        if (operation_) cublasLtMatmulDescDestroy(operation_);
    }
    template <class T>
    void set(cublasLtMatmulDescAttributes_t attribute, const T& value) const {
        CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(operation_, attribute, &value, sizeof value));
    }
    operator cublasLtMatmulDesc_t() const { return operation_; }

private:
    cublasLtMatmulDesc_t operation_ = nullptr;
};

class Preference {
public:
    Preference() { CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&preference_)); }
    Preference(Preference&& other) noexcept : preference_(std::exchange(other.preference_, nullptr)) {}
    ~Preference() {
        if (preference_) cublasLtMatmulPreferenceDestroy(preference_);
    }
    template <class T>
    void set(cublasLtMatmulPreferenceAttributes_t attribute, const T& value) const {
        CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference_, attribute, &value, sizeof value));
    }
    operator cublasLtMatmulPreference_t() const { return preference_; }

private:
    cublasLtMatmulPreference_t preference_ = nullptr;
};

void check_layer(const Linear& layer) {
    KILN_CHECK(layer.N > 0 && layer.I > 0 && layer.O > 0, "matmul: N ", layer.N, ", I ", layer.I, ", O ", layer.O,
               "; all must be positive");
    KILN_CHECK(layer.in_stride == 0 || layer.in_stride >= layer.I, "matmul: rows of ", layer.I, " elements, ",
               layer.in_stride, " apart");
    KILN_CHECK(layer.out_stride == 0 || layer.out_stride >= layer.O, "matmul: rows of ", layer.O, " elements, ",
               layer.out_stride, " apart");
}
int in_stride(const Linear& layer) {
    return layer.in_stride ? layer.in_stride : layer.I;
}
int out_stride(const Linear& layer) {
    return layer.out_stride ? layer.out_stride : layer.O;
}

}  // namespace

struct Matmul::Plan {
    Operation operation;
    Layout a, b, d;
    cublasLtMatmulAlgo_t algorithm{};
};

void Matmul::PlanDeleter::operator()(Plan* plan) const {
    delete plan;
}

Matmul::Matmul(const MatmulOptions& options) : options_(options), workspace_(options.workspace_bytes) {
    KILN_CHECK(options.candidates >= 1, "matmul: ", options.candidates, " candidates; at least 1");
}

std::string Matmul::text_of(const Key& key) {
    return concat("product (", key.n, ", ", key.m, ") of sums over ", key.k, " in ", name_of(key.type), " to ",
                  name_of(key.out_type), name_of(key.epilogue), key.accumulate ? ", accumulating" : "", ", rows ",
                  key.ldd, " apart");
}

void Matmul::run(const Plan& plan, const cublasLtMatmulAlgo_t& algorithm, const Key& key, const Pointers& pointers,
                 cudaStream_t stream) {
    const float alpha = 1, beta = key.accumulate ? 1.0f : 0.0f;
    const cublasStatus_t status =
        cublasLtMatmul(handle_, plan.operation, &alpha, pointers.a, plan.a, pointers.b, plan.b, &beta, pointers.d,
                       plan.d, pointers.d, plan.d, &algorithm, workspace_.get(), workspace_.bytes(), stream);
    KILN_CHECK(status == CUBLAS_STATUS_SUCCESS, "matmul: cublasLtMatmul refuses the ", text_of(key), ": ",
               cublasLtGetStatusName(status));
}

// The first time a shape is seen, which may be within a step: allocates, and waits for the device.
void Matmul::choose_fastest(Plan& plan, const Key& key, const Pointers& pointers, cudaStream_t stream) {
    Preference preference;
    preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t(workspace_.bytes()));
    // Parts of a split sum meet in float32, never in the type of the output.
    preference.set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                   uint32_t(CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
        preference.set(attribute, uint32_t(kAlignment));
    }
    std::vector<cublasLtMatmulHeuristicResult_t> found(size_t(options_.candidates));
    int count = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle_, plan.operation, plan.a, plan.b, plan.d, plan.d, preference, options_.candidates, found.data(), &count);
    found.resize(size_t(count));
    std::erase_if(found, [](const auto& result) { return result.state != CUBLAS_STATUS_SUCCESS; });
    KILN_CHECK(status == CUBLAS_STATUS_SUCCESS && !found.empty(), "matmul: cuBLASLt has no algorithm for the ",
               text_of(key), ": ", cublasLtGetStatusName(status));
    plan.algorithm = found.front().algo;

    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    CUDA_CHECK(cudaStreamIsCapturing(stream, &capture));
    if (found.size() == 1 || capture != cudaStreamCaptureStatusNone) return;

    // What accumulates would be added to by every trial, so those go elsewhere. Anything else is overwritten by the
    // call that follows.
    Pointers trial = pointers;
    std::optional<DeviceBuffer<unsigned char>> scratch;
    if (key.accumulate) {
        const size_t bytes = size_t(key.ldd) * size_t(key.n) * bytes_of(key.out_type);
        size_t free = 0, total = 0;
        CUDA_CHECK(cudaMemGetInfo(&free, &total));
        if (free < bytes + kMemoryLeft) return;  // a model that just fits: the library's first, untimed
        scratch.emplace(bytes);
        CUDA_CHECK(cudaMemsetAsync(scratch->get(), 0, scratch->bytes(), stream));
        trial.d = scratch->get();
    }
    const Event start, end;
    float best_ms = std::numeric_limits<float>::infinity();
    for (const auto& candidate : found) {
        run(plan, candidate.algo, key, trial, stream);
        start.record(stream);
        for (int i = 0; i < kTimedLaunches; ++i) run(plan, candidate.algo, key, trial, stream);
        end.record(stream);
        end.synchronize();
        float ms = 0;
        CUDA_CHECK(cudaEventElapsedTime(&ms, start, end));
        ++timed_;
        if (ms < best_ms) {
            best_ms = ms;
            plan.algorithm = candidate.algo;
        }
    }
}

Matmul::Plan& Matmul::plan_for(const Key& key, const Pointers& pointers, cudaStream_t stream) {
    const bool float32 = key.type == CUDA_R_32F;
    Plan plan{Operation(float32 && options_.tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F),
              key.transpose_a ? Layout(key.type, key.k, key.m, key.lda) : Layout(key.type, key.m, key.k, key.lda),
              key.transpose_b ? Layout(key.type, key.n, key.k, key.ldb) : Layout(key.type, key.k, key.n, key.ldb),
              Layout(key.out_type, key.m, key.n, key.ldd)};
    plan.operation.set(CUBLASLT_MATMUL_DESC_TRANSA, int32_t(key.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N));
    plan.operation.set(CUBLASLT_MATMUL_DESC_TRANSB, int32_t(key.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N));
    plan.operation.set(CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t(key.epilogue));
    if (pointers.aux) plan.operation.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t(key.m));
    if (pointers.bias) plan.operation.set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, int32_t(key.out_type));
    // The heuristic looks at these for their alignment.
    if (pointers.bias) plan.operation.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, pointers.bias);
    if (pointers.aux) plan.operation.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, pointers.aux);
    choose_fastest(plan, key, pointers, stream);
    return *plans_.emplace(key, new Plan(std::move(plan))).first->second;
}

void Matmul::multiply(const Key& key, const Pointers& pointers, cudaStream_t stream) {
    for (const void* p : {pointers.a, pointers.b, static_cast<const void*>(pointers.d),
                          static_cast<const void*>(pointers.bias), static_cast<const void*>(pointers.aux)}) {
        KILN_CHECK(reinterpret_cast<uintptr_t>(p) % kAlignment == 0, "matmul: ", text_of(key), ": the address ", p,
                   " is not a multiple of ", kAlignment);
    }
    const auto found = plans_.find(key);
    Plan& plan = found != plans_.end() ? *found->second : plan_for(key, pointers, stream);
    if (pointers.bias) plan.operation.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, pointers.bias);
    if (pointers.aux) plan.operation.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, pointers.aux);
    run(plan, plan.algorithm, key, pointers, stream);
}

// A row-major (N, O) is a column-major (O, N): hence out^T = w x^T, dx^T = w^T dout^T and dw^T = x^T dout.

template <class T, class Out>
void Matmul::forward(Out* out, const T* x, const T* w, const std::type_identity_t<Out>* bias, const Linear& layer,
                     cudaStream_t stream) {
    check_layer(layer);
    multiply({.m = layer.O,
              .n = layer.N,
              .k = layer.I,
              .lda = layer.I,
              .ldb = in_stride(layer),
              .ldd = out_stride(layer),
              .type = kTypeOf<T>,
              .out_type = kTypeOf<Out>,
              .transpose_a = true,
              .transpose_b = false,
              .accumulate = false,
              .epilogue = bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT},
             {.a = w, .b = x, .d = out, .bias = const_cast<Out*>(bias), .aux = nullptr}, stream);
}

template <class T>
void Matmul::forward_gelu(T* out, T* kept, const T* x, const T* w, const std::type_identity_t<T>* bias,
                          const Linear& layer, cudaStream_t stream) {
    check_layer(layer);
    KILN_CHECK(kept && layer.O % 8 == 0, "matmul: GELU keeps its input in rows of a multiple of 8, not ", layer.O);
    multiply({.m = layer.O,
              .n = layer.N,
              .k = layer.I,
              .lda = layer.I,
              .ldb = in_stride(layer),
              .ldd = out_stride(layer),
              .type = kTypeOf<T>,
              .out_type = kTypeOf<T>,
              .transpose_a = true,
              .transpose_b = false,
              .accumulate = false,
              .epilogue = bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX},
             {.a = w, .b = x, .d = out, .bias = const_cast<T*>(bias), .aux = kept}, stream);
}

template <class T>
void Matmul::backward_input(T* dx, const T* dout, const T* w, const Linear& layer, cudaStream_t stream) {
    check_layer(layer);
    multiply({.m = layer.I,
              .n = layer.N,
              .k = layer.O,
              .lda = layer.I,
              .ldb = out_stride(layer),
              .ldd = in_stride(layer),
              .type = kTypeOf<T>,
              .out_type = kTypeOf<T>,
              .transpose_a = false,
              .transpose_b = false,
              .accumulate = false,
              .epilogue = CUBLASLT_EPILOGUE_DEFAULT},
             {.a = w, .b = dout, .d = dx, .bias = nullptr, .aux = nullptr}, stream);
}

template <class T>
void Matmul::backward_input_gelu(T* dkept, std::type_identity_t<T>* db, const T* dout, const T* w, const T* kept,
                                 const Linear& layer, cudaStream_t stream) {
    check_layer(layer);
    KILN_CHECK(kept && layer.I % 8 == 0, "matmul: GELU kept its input in rows of a multiple of 8, not ", layer.I);
    multiply({.m = layer.I,
              .n = layer.N,
              .k = layer.O,
              .lda = layer.I,
              .ldb = out_stride(layer),
              .ldd = in_stride(layer),
              .type = kTypeOf<T>,
              .out_type = kTypeOf<T>,
              .transpose_a = false,
              .transpose_b = false,
              .accumulate = false,
              .epilogue = db ? CUBLASLT_EPILOGUE_DGELU_BGRAD : CUBLASLT_EPILOGUE_DGELU},
             {.a = w, .b = dout, .d = dkept, .bias = db, .aux = const_cast<T*>(kept)}, stream);
}

template <class T, class Out>
void Matmul::backward_weight(Out* dw, std::type_identity_t<Out>* db, const T* dout, const T* x, const Linear& layer,
                             bool accumulate, cudaStream_t stream) {
    check_layer(layer);
    KILN_CHECK(!db || !accumulate, "matmul: the epilogue that sums a bias gradient cannot add to one");
    multiply({.m = layer.I,
              .n = layer.O,
              .k = layer.N,
              .lda = in_stride(layer),
              .ldb = out_stride(layer),
              .ldd = layer.I,
              .type = kTypeOf<T>,
              .out_type = kTypeOf<Out>,
              .transpose_a = false,
              .transpose_b = true,
              .accumulate = accumulate,
              .epilogue = db ? CUBLASLT_EPILOGUE_BGRADB : CUBLASLT_EPILOGUE_DEFAULT},
             {.a = x, .b = dout, .d = dw, .bias = db, .aux = nullptr}, stream);
}

#define KILN_MATMUL_OUT(T, Out)                                                                       \
    template void Matmul::forward(Out*, const T*, const T*, const Out*, const Linear&, cudaStream_t); \
    template void Matmul::backward_weight(Out*, Out*, const T*, const T*, const Linear&, bool, cudaStream_t);
#define KILN_MATMUL(T)                                                                                     \
    template void Matmul::forward_gelu(T*, T*, const T*, const T*, const T*, const Linear&, cudaStream_t); \
    template void Matmul::backward_input(T*, const T*, const T*, const Linear&, cudaStream_t);             \
    template void Matmul::backward_input_gelu(T*, T*, const T*, const T*, const T*, const Linear&, cudaStream_t);
KILN_MATMUL_OUT(float, float)
KILN_MATMUL_OUT(__nv_bfloat16, __nv_bfloat16)
KILN_MATMUL_OUT(__nv_bfloat16, float)
KILN_MATMUL_OUT(__half, __half)
KILN_MATMUL_OUT(__half, float)
KILN_MATMUL(float)
KILN_MATMUL(__nv_bfloat16)
KILN_MATMUL(__half)

}  // namespace kiln
