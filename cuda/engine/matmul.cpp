#include "cuda/engine/matmul.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "cuda/device/element_types.h"

namespace kiln {
namespace {

constexpr size_t kAlignment = 16;                 // of every pointer; cuBLASLt's tensor core kernels need it
constexpr int kOffers = 8;                        // that the heuristic is asked for, because some may fail
constexpr int kRounds = 3;                        // in which each candidate is timed once
constexpr float kTargetMs = 0.1f;                 // that several launches of a short matmul take together
constexpr size_t kMemoryLeft = size_t(64) << 20;  // in addition to what a trial takes

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
// What a user can do without an algorithm for a matmul that is not a plain one.
const char* remedy(cublasLtEpilogue_t epilogue) {
    const bool plain = epilogue == CUBLASLT_EPILOGUE_DEFAULT || epilogue == CUBLASLT_EPILOGUE_BIAS;
    return plain ? "" : "; leave out --gelu-fusion";
}
const char* name_of(cublasLtEpilogue_t epilogue) {
    switch (epilogue) {
        case CUBLASLT_EPILOGUE_BIAS: return ", bias";
        case CUBLASLT_EPILOGUE_GELU_AUX: return ", GELU";
        case CUBLASLT_EPILOGUE_GELU_AUX_BIAS: return ", bias and GELU";
        case CUBLASLT_EPILOGUE_DGELU: return ", gradient of GELU";
        default: return "";
    }
}

using Layout = Handle<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Operation = Handle<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Preference = Handle<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

// (rows, cols), or (cols, rows) for an operand that is transposed; column-major without gaps.
Layout make_layout(cudaDataType type, int rows, int cols, bool transposed) {
    if (transposed) std::swap(rows, cols);
    cublasLtMatrixLayout_t layout = nullptr;
    CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&layout, type, uint64_t(rows), uint64_t(cols), rows));
    return Layout(layout);
}
Operation make_operation(cublasComputeType_t compute) {
    cublasLtMatmulDesc_t operation = nullptr;
    CUBLAS_CHECK(cublasLtMatmulDescCreate(&operation, compute, CUDA_R_32F));
    return Operation(operation);
}
Preference make_preference() {
    cublasLtMatmulPreference_t preference = nullptr;
    CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&preference));
    return Preference(preference);
}
template <class T>
void set(const Operation& operation, cublasLtMatmulDescAttributes_t attribute, const T& value) {
    CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof value));
}
template <class T>
void set(const Preference& preference, cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
    CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value));
}

}  // namespace

struct Matmul::Plan {
    Operation operation;
    Layout a, b, d;
    std::vector<cublasLtMatmulAlgo_t> algorithms = {};  // the best first, without those that could not be launched
    std::string failures = {};                          // the statuses of those
};

void Matmul::set_epilogue_pointers(const Plan& plan, const Pointers& pointers) {
    if (pointers.bias) set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, pointers.bias);
    if (pointers.aux) set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, pointers.aux);
}

Matmul::Matmul(const MatmulOptions& options) : options_(options), workspace_(options.workspace_bytes) {
    KILN_CHECK(options.candidates >= 1, "matmul: ", options.candidates, " candidates; at least 1");
}

std::string Matmul::text_of(const Key& key) {
    return concat("matmul with m ", key.m, ", n ", key.n, ", k ", key.k, " in ", name_of(key.type), " to ",
                  name_of(key.out_type), name_of(key.epilogue), key.accumulate ? ", accumulating" : "");
}

// False: the library could not launch the algorithm, though its heuristic offered it. Throws if no other algorithm can
// help: after an error of an earlier kernel every call fails, and a failed call may have broken a capture.
bool Matmul::launch(Plan& plan, const cublasLtMatmulAlgo_t& algorithm, const Key& key, const Pointers& pointers,
                    cudaStream_t stream) {
    const float alpha = 1, beta = key.accumulate ? 1.0f : 0.0f;
    const cublasStatus_t status =
        cublasLtMatmul(handle_, plan.operation, &alpha, pointers.a, plan.a, pointers.b, plan.b, &beta, pointers.d,
                       plan.d, pointers.d, plan.d, &algorithm, workspace_.get(), workspace_.bytes(), stream);
    if (status == CUBLAS_STATUS_SUCCESS) return true;
    const cudaError_t error = cudaGetLastError();  // otherwise the next launch of a kernel would report it
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    CUDA_CHECK(cudaStreamIsCapturing(stream, &capture));
    KILN_CHECK(capture == cudaStreamCaptureStatusNone, text_of(key),
               " failed while it was captured in a graph: ", cublasLtGetStatusName(status), ", ",
               cudaGetErrorName(error));
    if (const cudaError_t earlier = taken(cudaStreamQuery(stream)); earlier != cudaErrorNotReady) CUDA_CHECK(earlier);
    plan.failures += concat(" ", cublasLtGetStatusName(status));
    return false;
}

void Matmul::find_algorithms(Plan& plan, const Key& key) {
    const Preference preference = make_preference();
    set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t(workspace_.bytes()));
    // The parts of a split sum are added in float32, never in the type of the output.
    set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        uint32_t(CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
        set(preference, attribute, uint32_t(kAlignment));
    }
    std::vector<cublasLtMatmulHeuristicResult_t> found(size_t(std::max(options_.candidates, kOffers)));
    int count = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle_, plan.operation, plan.a, plan.b, plan.d, plan.d, preference, int(found.size()), found.data(), &count);
    found.resize(size_t(count));
    for (const auto& result : found) {
        if (result.state == CUBLAS_STATUS_SUCCESS) plan.algorithms.push_back(result.algo);
    }
    KILN_CHECK(status == CUBLAS_STATUS_SUCCESS && !plan.algorithms.empty(), text_of(key),
               ": cuBLASLt has no algorithm for it: ", cublasLtGetStatusName(status), remedy(key.epilogue));
}

// Runs once for each kind of call, maybe within a step: it allocates memory and waits for the device.
void Matmul::sort_by_time(Plan& plan, const Key& key, const Pointers& pointers, cudaStream_t stream) {
    // A trial that accumulates would change the result, so it writes into scratch memory. Otherwise the call that
    // follows overwrites what the trials wrote.
    Pointers trial = pointers;
    std::optional<DeviceBuffer<unsigned char>> scratch;
    if (key.accumulate) {
        const size_t bytes = size_t(key.m) * size_t(key.n) * bytes_of(key.out_type);
        size_t free = 0, total = 0;
        CUDA_CHECK(cudaMemGetInfo(&free, &total));
        if (free < bytes + kMemoryLeft) return;  // the model just fits: take the first without timing
        scratch.emplace(bytes);
        CUDA_CHECK(cudaMemsetAsync(scratch->get(), 0, scratch->bytes(), stream));
        trial.d = scratch->get();
    }
    struct Candidate {
        cublasLtMatmulAlgo_t algorithm;
        Event start = Event(), end = Event();
        Graph graph = Graph();                              // of several launches
        float ms = std::numeric_limits<float>::infinity();  // the least of all rounds
        bool failed = false;                                // in one of them, in hardly any time
    };
    std::vector<Candidate> candidates;
    for (const auto& algorithm : plan.algorithms) {  // the first launch of an algorithm loads its kernel
        if (int(candidates.size()) == options_.candidates) break;
        if (launch(plan, algorithm, key, trial, stream)) candidates.push_back({algorithm});
    }
    using Clock = std::chrono::steady_clock;
    for (const auto until = Clock::now() + std::exchange(options_.warm_up, {}); Clock::now() < until;) {
        for (Candidate& c : candidates) c.failed |= !launch(plan, c.algorithm, key, trial, stream);
        CUDA_CHECK(cudaStreamSynchronize(stream));
    }
    int launches = 1;  // between the events
    // The candidates take turns, so that a change of the clocks meets all of them.
    const auto time_each = [&](int rounds) {
        for (int round = 0; round < rounds; ++round) {
            for (Candidate& c : candidates) {
                c.start.record(stream);
                if (launches > 1 && !c.failed) {
                    c.graph.launch(stream);
                } else {
                    c.failed |= !launch(plan, c.algorithm, key, trial, stream);
                }
                c.end.record(stream);
            }
            for (Candidate& c : candidates) {
                c.end.synchronize();
                float ms = 0;
                CUDA_CHECK(cudaEventElapsedTime(&ms, c.start, c.end));
                c.ms = std::min(c.ms, ms / float(launches));
            }
        }
    };
    time_each(1);
    const auto fastest = std::ranges::min_element(candidates, {}, &Candidate::ms);
    if (fastest != candidates.end() && fastest->ms < kTargetMs / 2) {
        // The host needs longer to launch such a matmul than the GPU to run it, so all would seem equally slow. One
        // launch of a graph queues several.
        launches = int(kTargetMs / std::max(fastest->ms, kTargetMs / 64));
        for (Candidate& c : candidates) {
            c.ms = std::numeric_limits<float>::infinity();
            if (c.failed) continue;
            try {
                c.graph = Graph(stream, [&] {
                    for (int i = 0; i < launches; ++i) c.failed |= !launch(plan, c.algorithm, key, trial, stream);
                });
            } catch (const Error&) {
                c.failed = true;
            }
        }
        time_each(kRounds);
    } else {
        time_each(kRounds - 1);
    }
    timed_ += candidates.size();
    std::erase_if(candidates, [](const Candidate& c) { return c.failed; });
    std::ranges::stable_sort(candidates, {}, &Candidate::ms);
    plan.algorithms.clear();
    for (const Candidate& c : candidates) plan.algorithms.push_back(c.algorithm);
}

Matmul::Plan& Matmul::plan_for(const Key& key, const Pointers& pointers, cudaStream_t stream) {
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    CUDA_CHECK(cudaStreamIsCapturing(stream, &capture));
    KILN_CHECK(capture == cudaStreamCaptureStatusNone, text_of(key),
               " has no plan yet; run it once before it is captured in a graph");
    const bool tf32 = key.type == CUDA_R_32F && options_.tf32;
    Plan plan{make_operation(tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F),
              make_layout(key.type, key.m, key.k, key.transpose_a),
              make_layout(key.type, key.k, key.n, key.transpose_b), make_layout(key.out_type, key.m, key.n, false)};
    set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, int32_t(key.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N));
    set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSB, int32_t(key.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N));
    set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t(key.epilogue));
    if (pointers.aux) set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t(key.m));
    if (pointers.bias) set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, int32_t(key.out_type));
    set_epilogue_pointers(plan, pointers);  // the heuristic looks at their alignment
    find_algorithms(plan, key);
    if (!key.untimed && options_.candidates > 1 && plan.algorithms.size() > 1)
        sort_by_time(plan, key, pointers, stream);
    return *plans_.emplace(key, std::make_shared<Plan>(std::move(plan))).first->second;
}

void Matmul::multiply(Key key, const Pointers& pointers, cudaStream_t stream) {
    key.untimed = untimed_;
    for (const void* p : {pointers.a, pointers.b, static_cast<const void*>(pointers.d), pointers.bias, pointers.aux}) {
        KILN_CHECK(reinterpret_cast<uintptr_t>(p) % kAlignment == 0, text_of(key), ": the address ", p,
                   " is not a multiple of ", kAlignment);
    }
    const auto found = plans_.find(key);
    Plan& plan = found != plans_.end() ? *found->second : plan_for(key, pointers, stream);
    set_epilogue_pointers(plan, pointers);
    auto& algorithms = plan.algorithms;
    while (!algorithms.empty() && !launch(plan, algorithms.front(), key, pointers, stream)) {
        algorithms.erase(algorithms.begin());
    }
    KILN_CHECK(!algorithms.empty(), text_of(key), ": cuBLASLt could launch none of its algorithms:", plan.failures,
               remedy(key.epilogue));
}

// cuBLASLt's matrices are column-major, so a row-major (N, O) is a column-major (O, N): the calls compute
// out^T = w x^T, dx^T = w^T dout^T and dw^T = x^T dout.

template <class T, class Out>
Matmul::Key Matmul::key_of(int m, int n, int k) {
    KILN_CHECK(m > 0 && n > 0 && k > 0, "matmul with m ", m, ", n ", n, ", k ", k, ": all must be positive");
    return {.m = m, .n = n, .k = k, .type = kTypeOf<T>, .out_type = kTypeOf<Out>};
}

template <class T, class Out>
void Matmul::forward(Out* out, const T* x, const T* w, const std::type_identity_t<Out>* bias, const Linear& layer,
                     cudaStream_t stream) {
    Key key = key_of<T, Out>(layer.O, layer.N, layer.I);
    key.transpose_a = true;
    if (bias) key.epilogue = CUBLASLT_EPILOGUE_BIAS;
    multiply(key, {.a = w, .b = x, .d = out, .bias = bias}, stream);
}

template <class T>
void Matmul::forward_gelu(T* out, T* kept, const T* x, const T* w, const std::type_identity_t<T>* bias,
                          const Linear& layer, cudaStream_t stream) {
    KILN_CHECK(layer.O % 8 == 0, "matmul with GELU: O must be a multiple of 8, not ", layer.O);
    Key key = key_of<T, T>(layer.O, layer.N, layer.I);
    key.transpose_a = true;
    key.epilogue = bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    multiply(key, {.a = w, .b = x, .d = out, .bias = bias, .aux = kept}, stream);
}

template <class T>
void Matmul::backward_input(T* dx, const T* dout, const T* w, const Linear& layer, cudaStream_t stream) {
    multiply(key_of<T, T>(layer.I, layer.N, layer.O), {.a = w, .b = dout, .d = dx}, stream);
}

template <class T>
void Matmul::backward_input_gelu(T* dkept, const T* dout, const T* w, const T* kept, const Linear& layer,
                                 cudaStream_t stream) {
    KILN_CHECK(layer.I % 8 == 0, "matmul with GELU: I must be a multiple of 8, not ", layer.I);
    Key key = key_of<T, T>(layer.I, layer.N, layer.O);
    key.epilogue = CUBLASLT_EPILOGUE_DGELU;
    multiply(key, {.a = w, .b = dout, .d = dkept, .aux = kept}, stream);
}

template <class T, class Out>
void Matmul::backward_weight(Out* dw, const T* dout, const T* x, const Linear& layer, bool accumulate,
                             cudaStream_t stream) {
    Key key = key_of<T, Out>(layer.I, layer.O, layer.N);
    key.transpose_b = true;
    key.accumulate = accumulate;
    multiply(key, {.a = x, .b = dout, .d = dw}, stream);
}

#define KILN_MATMUL_OUT(T, Out)                                                                       \
    template void Matmul::forward(Out*, const T*, const T*, const Out*, const Linear&, cudaStream_t); \
    template void Matmul::backward_weight(Out*, const T*, const T*, const Linear&, bool, cudaStream_t);
#define KILN_MATMUL(T)                                                                                     \
    template void Matmul::forward_gelu(T*, T*, const T*, const T*, const T*, const Linear&, cudaStream_t); \
    template void Matmul::backward_input(T*, const T*, const T*, const Linear&, cudaStream_t);             \
    template void Matmul::backward_input_gelu(T*, const T*, const T*, const T*, const Linear&, cudaStream_t);
KILN_FOR_GRADIENT_TYPES(KILN_MATMUL_OUT)
KILN_FOR_TYPES(KILN_MATMUL)

}  // namespace kiln
