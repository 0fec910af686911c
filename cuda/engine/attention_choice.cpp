#include "cuda/engine/attention_choice.h"

#include "cpu_reference/interface/error.h"
#include "cuda/device/cuda_check.h"
#include "cuda/kernels/kernels.h"

namespace kiln {
namespace {

// Why flash attention is not possible; empty if it is.
std::string why_not_flash(const ModelConfig& c, const EngineOptions& o) {
    if (o.precision == Precision::float32) return "tensor cores need --dtype bfloat16 or float16";
    if (!flash_attention_has(c.HS)) return concat("flash attention has no kernel for a head size of ", c.HS);
    int device = 0, major = 0;
    CUDA_CHECK(cudaGetDevice(&device));
    CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    if (major < 8) return concat("flash attention needs a GPU of compute capability 8.0 or more, not ", major, ".x");
    return "";
}

}  // namespace

AttentionChoice choose_attention(const ModelConfig& c, const EngineOptions& o) {
    if (o.attention == AttentionKind::plain) return {false, "plain, as requested"};
    const std::string why_not = why_not_flash(c, o);
    if (why_not.empty()) return {true, concat("flash, on the tensor cores, head size ", c.HS)};
    if (o.attention == AttentionKind::flash) {
        throw UsageError(concat("--attention flash: ", why_not, "; without the option the plain attention is used"));
    }
    return {false, concat("plain: ", why_not)};
}

}  // namespace kiln
