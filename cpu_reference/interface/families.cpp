#include "cpu_reference/interface/families.h"

#include <algorithm>

#include "cpu_reference/interface/error.h"

namespace kiln {
namespace {

ModelConfig gpt2(int L, int C, int NH) {
    ModelConfig c;
    c.L = L, c.C = C, c.NH = c.NKV = NH, c.HS = C / NH, c.F = 4 * C;
    return c;
}

ModelConfig llama(int L, int C, int NH, int NKV, int F, int V, int max_T, bool tied, float theta) {
    ModelConfig c;
    c.family = "llama";
    c.L = L, c.C = C, c.NH = NH, c.NKV = NKV, c.HS = C / NH, c.F = F, c.V = V, c.max_T = max_T;
    c.norm = Norm::rmsnorm, c.mlp = Mlp::swiglu, c.position = Position::rope;
    c.qkv_bias = c.linear_bias = false, c.tied_embeddings = tied;
    c.rope_theta = theta;
    return c;
}

ModelConfig llama3(ModelConfig c, float factor) {
    c.rope_scaling = {.factor = factor, .low_freq_factor = 1, .high_freq_factor = 4, .original_max_T = 8192};
    return c;
}

ModelConfig qwen2(ModelConfig c) {
    c.family = "qwen2", c.qkv_bias = true, c.norm_eps = 1e-6f;
    return c;
}

ModelConfig qwen3(ModelConfig c) {
    c.family = "qwen3", c.qk_norm = true, c.HS = 128, c.norm_eps = 1e-6f;
    return c;
}

// One block of width 128 over GPT-2's vocabulary: 13 M parameters with an LM head of its own, 6.6 M with a tied one.
ModelConfig gpt_13m() {
    ModelConfig c = gpt2(1, 128, 8);
    c.max_T = 128, c.tied_embeddings = false;
    return c;
}

}  // namespace

// The defaults are GPT-2 124M and models of its size.
const std::vector<Family>& families() {
    static const std::vector<Family> table = {
        // name, class, layout, keys attention_bias, mlp_bias and use_sliding_window, defaults
        {"gpt2", "GPT2LMHeadModel", HfLayout::gpt2, false, false, false, gpt2(12, 768, 12)},
        {"llama", "LlamaForCausalLM", HfLayout::llama, true, true, false,
         llama(12, 768, 12, 12, 2048, 32000, 1024, true, 10000)},
        {"qwen2", "Qwen2ForCausalLM", HfLayout::llama, false, false, true,
         qwen2(llama(12, 768, 12, 4, 2048, 151936, 1024, true, 1e6f))},
        {"qwen3", "Qwen3ForCausalLM", HfLayout::llama, true, false, true,
         qwen3(llama(12, 768, 12, 4, 2048, 151936, 1024, true, 1e6f))},
    };
    return table;
}

const Family* find_family(std::string_view name) {
    const auto found = std::ranges::find(families(), name, &Family::name);
    return found == families().end() ? nullptr : &*found;
}

std::string family_names() {
    std::string names;
    for (const Family& family : families()) names += concat(names.empty() ? "" : ", ", family.name);
    return names;
}

std::optional<ModelConfig> gpt2_of_depth(std::string_view name) {
    struct Row {
        int L, C, NH;
    };
    constexpr Row table[] = {{6, 384, 6},    {12, 768, 12},  {24, 1024, 16}, {36, 1280, 20},
                             {48, 1600, 25}, {60, 1920, 30}, {72, 2880, 30}, {84, 3456, 36}};
    for (const Row& row : table) {
        if (name == concat("d", row.L)) return gpt2(row.L, row.C, row.NH);
    }
    return std::nullopt;
}

const std::vector<Preset>& presets() {
    static const std::vector<Preset> table = [] {
        std::vector<Preset> rows;
        for (const Family& family : families()) rows.push_back({family.name, family.defaults});
        const Preset more[] = {
            {"gpt2-medium", gpt2(24, 1024, 16)},
            {"gpt2-large", gpt2(36, 1280, 20)},
            {"gpt2-xl", gpt2(48, 1600, 25)},
            {"gpt-13m", gpt_13m()},
            // 12 L C^2 + V C = 2.02e9 with heads of 64 and a width that is a power of two.
            {"gpt-2b", gpt2(38, 2048, 32)},
            {"llama-tiny", llama(8, 288, 8, 4, 768, 4096, 256, true, 10000)},
            {"tinyllama-1.1b", llama(22, 2048, 32, 4, 5632, 32000, 2048, false, 10000)},
            {"llama3.2-1b", llama3(llama(16, 2048, 32, 8, 8192, 128256, 131072, true, 5e5f), 32)},
            {"llama3.1-8b", llama3(llama(32, 4096, 32, 8, 14336, 128256, 131072, false, 5e5f), 8)},
            {"qwen2.5-0.5b", qwen2(llama(24, 896, 14, 2, 4864, 151936, 32768, true, 1e6f))},
            {"qwen3-0.6b", qwen3(llama(28, 1024, 16, 8, 3072, 151936, 40960, true, 1e6f))},
        };
        rows.insert(rows.end(), std::begin(more), std::end(more));
        return rows;
    }();
    return table;
}

}  // namespace kiln
