// libcublasLt for the emulated device: the functions that Kiln calls, compiled against the real header and linked in
// place of the library. Matrices are column-major. What the real library refuses, or computes only by chance (a
// workspace that is too small, an auxiliary buffer without its alignment), is refused here with the status in its
// manual. Matmuls are queued on their stream like kernels, sum in float32, and leave NaN in the workspace. As in the
// real library, the order of a sum depends on the shape and the algorithm, and an algorithm that the heuristic offers
// may fail at its launch.
#include <cublasLt.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <vector>

#include "dev/emulator/core/internal.h"
#include "dev/emulator/libraries/matmul.h"

namespace {

using namespace simt;

// The attributes of a descriptor: the bytes of each.
class Attributes {
public:
    cublasStatus_t set(int key, size_t expected_bytes, const void* value, size_t bytes) {
        if (expected_bytes == 0) return CUBLAS_STATUS_NOT_SUPPORTED;  // by this library
        if (!value || bytes != expected_bytes) return CUBLAS_STATUS_INVALID_VALUE;
        const auto* first = static_cast<const char*>(value);
        values_[key].assign(first, first + bytes);
        return CUBLAS_STATUS_SUCCESS;
    }
    template <class T>
    T get(int key, T otherwise) const {
        const auto found = values_.find(key);
        if (found == values_.end()) return otherwise;
        T value;
        std::memcpy(&value, found->second.data(), sizeof value);
        return value;
    }

private:
    std::map<int, std::vector<char>> values_;
};

struct Descriptor : cublasLtMatmulDescOpaque_t {
    cublasComputeType_t compute;
    cudaDataType scale;
    Attributes attributes;
};
struct Layout : cublasLtMatrixLayoutOpaque_t {
    cudaDataType type;
    int64_t rows, cols, ld;
};
struct Preference : cublasLtMatmulPreferenceOpaque_t {
    Attributes attributes;
};

size_t bytes_of(cublasLtMatmulDescAttributes_t attribute) {
    switch (attribute) {
        case CUBLASLT_MATMUL_DESC_TRANSA:
        case CUBLASLT_MATMUL_DESC_TRANSB:
        case CUBLASLT_MATMUL_DESC_EPILOGUE:
        case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return 4;
        case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
        case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: return 8;
        default: return 0;
    }
}
size_t bytes_of(cublasLtMatmulPreferenceAttributes_t attribute) {
    switch (attribute) {
        case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return 8;
        case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
        case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
        case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
        case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: return 4;
        default: return 0;
    }
}

// The types that go together, from the table of cublasLtMatmul in the manual. Those that Kiln has no use for are left
// out. The scale is float32.
struct Types {
    cublasComputeType_t compute;
    cudaDataType inputs, output;  // A and B; C, D, bias and the input of GELU
    auto operator<=>(const Types&) const = default;
};
constexpr Types kTypes[] = {
    {CUBLAS_COMPUTE_32F, CUDA_R_16BF, CUDA_R_16BF}, {CUBLAS_COMPUTE_32F, CUDA_R_16BF, CUDA_R_32F},
    {CUBLAS_COMPUTE_32F, CUDA_R_16F, CUDA_R_16F},   {CUBLAS_COMPUTE_32F, CUDA_R_16F, CUDA_R_32F},
    {CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_32F},   {CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_32F, CUDA_R_32F},
};

struct Epilogue {
    cublasLtEpilogue_t name;
    bool bias, aux;  // aux: writes or reads the input of GELU
};
constexpr Epilogue kEpilogues[] = {
    {CUBLASLT_EPILOGUE_DEFAULT, false, false}, {CUBLASLT_EPILOGUE_BIAS, true, false},
    {CUBLASLT_EPILOGUE_GELU_AUX, false, true}, {CUBLASLT_EPILOGUE_GELU_AUX_BIAS, true, true},
    {CUBLASLT_EPILOGUE_DGELU, false, true},
};

bool is_aligned(const void* p, size_t bytes) {
    return reinterpret_cast<uintptr_t>(p) % bytes == 0;
}

Operand operand(const Layout& layout, const void* data, bool transposed) {
    return {data, layout.type, layout.ld, transposed};
}

cublasStatus_t check_epilogue(const MatmulProblem& p, const Attributes& attributes) {
    const auto* const epilogue = std::ranges::find(kEpilogues, p.epilogue, &Epilogue::name);
    if (epilogue == std::end(kEpilogues)) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (epilogue->aux && (!p.aux || p.aux_ld < p.m || p.aux_ld % 8 != 0 || !is_aligned(p.aux, 16))) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (epilogue->bias) {
        if (!p.bias || !is_aligned(p.bias, element_bytes(p.d_type))) return CUBLAS_STATUS_INVALID_VALUE;
        const int type = attributes.get<int>(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, p.d_type);
        if (type != p.d_type) return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    return CUBLAS_STATUS_SUCCESS;
}

// Everything except the addresses of the matrices, which the heuristic does not know.
cublasStatus_t read(MatmulProblem& p, const Descriptor* op, const Layout* a, const Layout* b, const Layout* c,
                    const Layout* d) {
    if (!op || !a || !b || !c || !d) return CUBLAS_STATUS_INVALID_VALUE;
    const auto& attributes = op->attributes;
    const int ta = attributes.get<int>(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_N);
    const int tb = attributes.get<int>(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N);
    if ((ta != CUBLAS_OP_N && ta != CUBLAS_OP_T) || (tb != CUBLAS_OP_N && tb != CUBLAS_OP_T)) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    for (const Layout* layout : {a, b, c, d}) {
        if (layout->rows < 1 || layout->cols < 1 || layout->ld < layout->rows) return CUBLAS_STATUS_INVALID_VALUE;
    }
    p.tf32 = op->compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    p.m = d->rows;
    p.n = d->cols;
    p.k = ta == CUBLAS_OP_T ? a->rows : a->cols;
    p.a = operand(*a, nullptr, ta == CUBLAS_OP_T);
    p.b = operand(*b, nullptr, tb == CUBLAS_OP_T);
    p.c = operand(*c, nullptr, false);
    p.d_type = d->type;
    p.d_ld = d->ld;
    if ((p.a.transposed ? a->cols : a->rows) != p.m || (p.b.transposed ? b->rows : b->cols) != p.n ||
        (p.b.transposed ? b->cols : b->rows) != p.k || c->rows != p.m || c->cols != p.n) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    const Types types{op->compute, a->type, d->type};
    int major = 0;
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
    if (a->type == CUDA_R_16BF && major < 8) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (op->scale != CUDA_R_32F || a->type != b->type || c->type != d->type ||
        std::ranges::find(kTypes, types) == std::end(kTypes)) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    p.epilogue = attributes.get<unsigned>(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DEFAULT);
    p.bias = attributes.get<void*>(CUBLASLT_MATMUL_DESC_BIAS_POINTER, nullptr);
    p.aux = attributes.get<void*>(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, nullptr);
    p.aux_ld = attributes.get<int64_t>(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, 0);
    return check_epilogue(p, attributes);
}

// What an algorithm is for a shape.
struct Algorithm {
    uint64_t tag;
    size_t kind;  // of kKinds
    uint64_t workspace_bytes;
};
constexpr uint64_t kTag = 0x53494d544c743031;
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

struct Kind {
    bool tensor_cores;  // need addresses and leading dimensions of whole 16 bytes; without them TF32 is not used
    bool split;         // adds two halves of the sum in the workspace
    bool launches;      // false: is offered, but fails
};
constexpr Kind kKinds[] = {
    {.tensor_cores = true, .split = false, .launches = true},
    {.tensor_cores = true, .split = true, .launches = true},
    {.tensor_cores = false, .split = false, .launches = true},
    {.tensor_cores = false, .split = false, .launches = false},
};

// Depends on the shape alone, or on the shape and the algorithm.
uint64_t hash(const MatmulProblem& p, size_t kind = 0) {
    uint64_t hash = kind;
    for (const int64_t x : {p.m, p.n, p.k}) {  // the steps of SplitMix64
        hash = (hash + uint64_t(x) + 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9;
        hash ^= hash >> 31;
    }
    return hash;
}

SumOrder order_of(const MatmulProblem& p, size_t kind) {
    const uint64_t bits = hash(p, kind);
    const int64_t runs = kKinds[kind].split ? 2 : 1 + int64_t(bits >> 32) % 3;
    return {.start = int64_t(bits % uint64_t(p.k)), .run = (p.k + runs - 1) / runs};
}

Algorithm algorithm_of(const MatmulProblem& p, size_t kind) {
    return {kTag, kind, kKinds[kind].split ? uint64_t(p.m * p.n) * sizeof(float) : 0};
}

size_t alignment_of(size_t kind, cudaDataType type) {
    return kKinds[kind].tensor_cores ? 16 : element_bytes(type);
}

bool columns_are_aligned(const MatmulProblem& p, size_t kind) {
    const auto aligned = [&](int64_t ld, cudaDataType type) {
        return size_t(ld) * element_bytes(type) % alignment_of(kind, type) == 0;
    };
    return aligned(p.a.ld, p.a.type) && aligned(p.b.ld, p.b.type) && aligned(p.c.ld, p.c.type) &&
           aligned(p.d_ld, p.d_type);
}

template <class Opaque, class Own>
cublasStatus_t create(Opaque** out, Own value) {
    if (!out) return CUBLAS_STATUS_INVALID_VALUE;
    *out = new Own(std::move(value));
    return CUBLAS_STATUS_SUCCESS;
}
const Layout* layout_of(cublasLtMatrixLayout_t layout) {
    return static_cast<const Layout*>(layout);
}

}  // namespace

struct cublasLtContext {};

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
    *handle = new cublasLtContext;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}
const char* cublasLtGetStatusName(cublasStatus_t status) {
    switch (status) {
        case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
        case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
        case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
        case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
        case CUBLAS_STATUS_INTERNAL_ERROR: return "CUBLAS_STATUS_INTERNAL_ERROR";
        case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
        default: return "a status of the emulated cuBLASLt";
    }
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* op, cublasComputeType_t compute, cudaDataType_t scale) {
    return create(op, Descriptor{{}, compute, scale, {}});
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t op) {
    delete static_cast<Descriptor*>(op);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t op, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
    return static_cast<Descriptor*>(op)->attributes.set(attribute, bytes_of(attribute), value, bytes);
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t cols, int64_t ld) {
    return create(layout, Layout{{}, type, int64_t(rows), int64_t(cols), ld});
}
cublasStatus_t cublasLtMatrixLayoutDestroy(const cublasLtMatrixLayout_t layout) {
    delete layout_of(layout);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
    return create(preference, Preference{});
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
    delete static_cast<Preference*>(preference);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t bytes) {
    return static_cast<Preference*>(preference)->attributes.set(attribute, bytes_of(attribute), value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t op,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[], int* returned) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!preference || requested < 1 || !results || !returned) return CUBLAS_STATUS_INVALID_VALUE;
    *returned = 0;
    if (breaks_capture()) return CUBLAS_STATUS_INTERNAL_ERROR;  // it loads kernels
    MatmulProblem p;
    const cublasStatus_t status =
        read(p, static_cast<Descriptor*>(op), layout_of(a), layout_of(b), layout_of(c), layout_of(d));
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    const auto& wishes = static_cast<Preference*>(preference)->attributes;
    const auto limit = wishes.get<uint64_t>(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, 0);
    const cudaDataType types[] = {p.a.type, p.b.type, p.c.type, p.d_type};
    // Which one is offered first depends on the shape.
    const size_t kinds = std::size(kKinds), first = hash(p) % kinds;
    for (size_t i = 0; i < kinds && *returned < requested; ++i) {
        const size_t kind = (first + i) % kinds;
        const Algorithm algorithm = algorithm_of(p, kind);
        bool fits = algorithm.workspace_bytes <= limit && columns_are_aligned(p, kind);
        for (int matrix = 0; matrix < 4; ++matrix) {
            const auto promised = wishes.get<uint32_t>(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + matrix, 256);
            fits = fits && promised >= alignment_of(kind, types[matrix]);
        }
        if (!fits) continue;
        cublasLtMatmulHeuristicResult_t& result = results[(*returned)++];
        result = {};
        std::memcpy(&result.algo, &algorithm, sizeof algorithm);
        result.workspaceSize = algorithm.workspace_bytes;
        result.state = CUBLAS_STATUS_SUCCESS;
        result.wavesCount = 1;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t op, const void* alpha, const void* A,
                              cublasLtMatrixLayout_t a, const void* B, cublasLtMatrixLayout_t b, const void* beta,
                              const void* C, cublasLtMatrixLayout_t c, void* D, cublasLtMatrixLayout_t d,
                              const cublasLtMatmulAlgo_t* algo, void* workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    MatmulProblem p;
    const cublasStatus_t status =
        read(p, static_cast<Descriptor*>(op), layout_of(a), layout_of(b), layout_of(c), layout_of(d));
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    if (!alpha || !beta || !A || !B || !D) return CUBLAS_STATUS_INVALID_VALUE;
    p.alpha = *static_cast<const float*>(alpha);
    p.beta = *static_cast<const float*>(beta);
    if (p.beta != 0 && !C) return CUBLAS_STATUS_INVALID_VALUE;
    if (C == D && p.c.ld != p.d_ld) return CUBLAS_STATUS_INVALID_VALUE;  // in place only with one layout
    Algorithm algorithm = algorithm_of(p, 0);                            // the choice of the library if algo is null
    if (algo) std::memcpy(&algorithm, algo, sizeof algorithm);
    const size_t kind = algorithm.kind;
    if (algorithm.tag != kTag || kind >= std::size(kKinds)) return CUBLAS_STATUS_INVALID_VALUE;
    // The algorithm may be one that was found for a smaller matmul.
    if (algorithm.workspace_bytes < algorithm_of(p, kind).workspace_bytes) return CUBLAS_STATUS_INVALID_VALUE;
    if (workspace_bytes < algorithm.workspace_bytes || !is_aligned(workspace, 256) ||
        (algorithm.workspace_bytes > 0 && !workspace)) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (!columns_are_aligned(p, kind)) return CUBLAS_STATUS_INVALID_VALUE;
    const std::pair<const void*, cudaDataType> matrices[] = {
        {A, p.a.type}, {B, p.b.type}, {p.beta != 0 ? C : nullptr, p.c.type}, {D, p.d_type}};
    for (const auto& [address, type] : matrices) {
        if (!is_aligned(address, alignment_of(kind, type))) return CUBLAS_STATUS_INVALID_VALUE;
    }
    p.tf32 = p.tf32 && kKinds[kind].tensor_cores;
    p.a.data = A;
    p.b.data = B;
    p.c.data = C;
    p.d = D;
    if (!kKinds[kind].launches && hash(p) >> 32 & 1) return CUBLAS_STATUS_NOT_SUPPORTED;
    const bool fails = !kKinds[kind].launches || (matmul_fails() && matmul_fails()(p, kind));
    // The error of the kernel that the library could not launch, or of a kernel before it.
    if (returned(fails ? cudaErrorInvalidConfiguration : cudaSuccess) != cudaSuccess) {
        return CUBLAS_STATUS_EXECUTION_FAILED;
    }
    simt::enqueue(stream, [p, algorithm, workspace, kind, order = order_of(p, kind)] {
        if (matmul_runs()) matmul_runs()(kind);
        if (algorithm.workspace_bytes > 0) std::memset(workspace, 0xff, algorithm.workspace_bytes);
        run(p, order);
    });
    return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
