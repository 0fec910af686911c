#pragma once
// The architecture is data. GPT-2, Llama 2/3, Qwen2/2.5 and Qwen3 are rows of these values; both engines branch on the
// fields, never on a family's name.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kiln {

enum class Norm : uint8_t { layernorm, rmsnorm };
enum class Mlp : uint8_t { gelu, swiglu };  // gelu: the tanh form
enum class Position : uint8_t { learned, rope };

// Llama 3's stretching of RoPE's low frequencies. factor 0: none.
struct RopeScaling {
    float factor = 0, low_freq_factor = 1, high_freq_factor = 4;
    int original_max_T = 8192;
    bool operator==(const RopeScaling&) const = default;
};

struct ModelConfig {
    std::string family = "gpt2";  // gpt2, llama, qwen2, qwen3: names the files' tensors and the defaults, nothing else
    int L = 12, C = 768, NH = 12, NKV = 12, HS = 64, F = 3072, V = 50257, max_T = 1024;
    Norm norm = Norm::layernorm;
    Mlp mlp = Mlp::gelu;
    Position position = Position::learned;
    bool qkv_bias = true, linear_bias = true, qk_norm = false, tied_embeddings = true;
    float norm_eps = 1e-5f;
    float rope_theta = 10000.0f;
    RopeScaling rope_scaling;
    float dropout_embedding = 0, dropout_residual = 0, dropout_attention = 0;  // probability of dropping, [0, 1)
    float init_std = 0.02f;  // residual projections: init_std / sqrt(2 L)

    int QKV() const { return (NH + 2 * NKV) * HS; }
    int FC() const { return mlp == Mlp::swiglu ? 2 * F : F; }  // rows of the first MLP matrix: gate | up for SwiGLU
    bool operator==(const ModelConfig&) const = default;
};

// Throws UsageError if a field is out of range or two do not fit (NH % NKV, HS odd under RoPE, ...), naming the field.
void validate(const ModelConfig& config);

// A preset's name ("gpt2", "llama-tiny", ...), a descriptor "FAMILY:key=value,..." or llm.c's "d12", "gpt2:d12".
// FAMILY is a family or a preset; keys: layers dim heads kv_heads head_size ffn multiple_of vocab ctx norm mlp position
// qkv_bias bias qk_norm tied eps theta rope_factor rope_low rope_high rope_original dropout dropout_embedding
// dropout_residual dropout_attention init_std. What is not given follows what is: head_size keeps the base's value and
// heads = dim / head_size; with heads given, head_size = dim / heads (Qwen3 keeps 128); kv_heads keeps the base's
// ratio where it divides; ffn = 4 dim, or for SwiGLU 4 dim * 2/3 rounded up to multiple_of (32). Throws UsageError
// naming the key, the text and the range.
ModelConfig parse_model(std::string_view descriptor);

// The descriptor of `config`, such that parse_model(describe(c)) == c.
std::string describe(const ModelConfig& config);

std::vector<std::string> preset_names();

int64_t count_parameters(const ModelConfig& config);  // tied matrices counted once
int64_t flops_per_token(const ModelConfig& config,
                        int T);  // 6 N + 6 L C' T, causal; C' = NH * HS; N without embeddings looked up

}  // namespace kiln
