#pragma once
// The architecture is data: GPT-2, Llama 2/3, Qwen2/2.5 and Qwen3 are values of one struct. Both engines branch on its
// fields, never on the name of a family.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kiln {

enum class Norm : uint8_t { layernorm, rmsnorm };
enum class Mlp : uint8_t { gelu, swiglu };  // gelu: the tanh form
enum class Position : uint8_t { learned, rope };
enum class RopeType : uint8_t { llama3, linear, yarn };  // rope_table.h says what each computes
// In descriptors; empty if there is no such value.
const char* name_of(Norm norm);
const char* name_of(Mlp mlp);
const char* name_of(Position position);
const char* name_of(RopeType type);

// Divides frequencies of RoPE by `factor`, for a context that is longer than that of pre-training; 0: no scaling.
struct RopeScaling {
    RopeType type = RopeType::llama3;
    float factor = 0;
    float low_freq_factor = 1, high_freq_factor = 4;  // llama3
    int original_max_T = 8192;                        // llama3, yarn: the context of pre-training
    float beta_fast = 32, beta_slow = 1;              // yarn
    bool truncate = true;                             // yarn
    float attention_factor = 0;                       // yarn: multiplies cos and sin; 0: 0.1 ln(factor) + 1
    bool operator==(const RopeScaling&) const = default;
};

// Dimensions have these letters everywhere:
//   B    batch: sequences in a micro-batch
//   T    time: tokens in a sequence; max_T is the largest T, the context of the model
//   C    width: channels of the residual stream
//   L    layers (blocks)
//   NH   query heads of attention
//   NKV  key and value heads; NH / NKV query heads share each
//   HS   head size: channels of a head
//   F    feed-forward width: channels between the two matrices of the MLP
//   V    vocabulary: tokens that the model knows
//   Vp   padded vocabulary: V rounded up to a multiple of 128 on a GPU
struct ModelConfig {
    std::string family = "gpt2";  // a row of families.h: decides defaults and names in files, but no computation
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
    int FC() const;              // rows of the first MLP matrix: gate | up for SwiGLU
    bool centered_norm() const;  // the norm subtracts the mean and has a bias
    bool uses_rope() const;
    bool operator==(const ModelConfig&) const = default;
};

// Throws UsageError, with the name of the field, if a field is out of range or if two contradict each other (NH is not
// a multiple of NKV, HS is odd with RoPE, ...).
void validate(const ModelConfig& config);

// A preset's name ("gpt2", "llama-tiny", ...), a descriptor "FAMILY:key=value,..." or llm.c's "d12", "gpt2:d12".
// FAMILY is a family or a preset; keys: layers dim heads kv_heads head_size ffn multiple_of vocab ctx norm mlp position
// qkv_bias bias qk_norm tied eps theta rope_type rope_factor rope_low rope_high rope_original rope_beta_fast
// rope_beta_slow rope_truncate rope_attention dropout dropout_embedding dropout_residual dropout_attention init_std.
// Dimensions that are not given follow from the given ones: head_size is that of the base and heads = dim / head_size,
// but if heads is given, head_size = dim / heads (Qwen3 keeps 128); kv_heads keeps the ratio of the base if it divides
// heads; ffn = 4 dim, or for SwiGLU 4 dim * 2/3, rounded up to a multiple of multiple_of (32). Throws UsageError with
// the key, the text and the range.
ModelConfig parse_model(std::string_view descriptor);

// The descriptor of `config`, such that parse_model(describe(c)) == c.
std::string describe(const ModelConfig& config);

std::vector<std::string> preset_names();

int64_t count_parameters(const ModelConfig& config);  // tied matrices counted once
// Of forward and backward: 6 N + 6 L NH HS T with causal attention. N: parameters that a matmul reads.
int64_t flops_per_token(const ModelConfig& config, int T);

}  // namespace kiln
