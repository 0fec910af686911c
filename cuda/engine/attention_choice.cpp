#include "cuda/engine/attention_choice.h"

#include "cpu_reference/interface/error.h"
#include "cuda/device/attributes.h"
#include "cuda/kernels/kernels.h"

namespace kiln {
namespace {

// Why flash attention is not possible; empty if it is.
std::string why_not_flash(const ModelConfig& c, const EngineOptions& o) {
    if (o.precision == Precision::float32) return "tensor cores need --dtype bfloat16 or float16";
    if (!flash_attention_has(c.HS)) return concat("flash attention has no kernel for a head size of ", c.HS);
    if (const int has = o.capability > 0 ? o.capability : compute_capability(); has < 80) {
        return concat("flash attention needs a GPU of compute capability 8.0 or more, not ", has / 10, ".", has % 10);
    }
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
