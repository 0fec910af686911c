#pragma once
// Models of each family that are small enough for finite differences, with odd sizes and grouped heads.
#include <cstdint>
#include <string>
#include <vector>

#include "cpu_reference/interface/engine.h"
#include "cpu_reference/interface/rng.h"

namespace kiln::testing {

struct TinyModel {
    std::string name, descriptor;
};

// init_std is large: with 0.02 these models are nearly linear, and tests would miss mistakes.
inline const std::vector<TinyModel>& tiny_models() {
    static const std::vector<TinyModel> models = {
        {"gpt2", "gpt2:layers=2,dim=24,heads=3,ctx=16,vocab=37,init_std=0.2"},
        {"gpt2_untied", "gpt2:layers=1,dim=20,heads=2,ffn=28,ctx=16,vocab=50,tied=false,init_std=0.2"},
        {"llama", "llama:layers=2,dim=24,heads=6,kv_heads=2,ffn=20,ctx=16,vocab=37,init_std=0.2,tied=false"},
        {"llama3",
         "llama:layers=1,dim=24,heads=4,kv_heads=1,head_size=10,ctx=16,vocab=41,init_std=0.2,rope_factor=8,"
         "rope_original=8,theta=100"},
        {"yarn",
         "llama:layers=1,dim=24,heads=4,kv_heads=1,head_size=10,ctx=16,vocab=41,init_std=0.2,rope_type=yarn,"
         "rope_factor=4,rope_original=8,theta=100"},
        {"qwen2", "qwen2:layers=2,dim=24,heads=4,kv_heads=2,ctx=16,vocab=37,init_std=0.2"},
        {"qwen3", "qwen3:layers=2,dim=24,heads=3,kv_heads=1,head_size=14,ctx=16,vocab=37,init_std=0.2"},
    };
    return models;
}

// One of each architecture for trainings on a Markov chain, whose vocabulary they take. Neither 2 nor 4 divides their
// numbers of parameters.
inline const std::vector<TinyModel>& odd_models() {
    static const std::vector<TinyModel> models = {
        {"gpt2", "gpt2:layers=2,dim=15,heads=3,ctx=17,dropout=0.1"},
        {"llama", "llama:layers=2,dim=18,heads=3,kv_heads=1,ffn=13,ctx=17,tied=false"},
        {"qwen2", "qwen2:layers=2,dim=18,heads=3,kv_heads=1,ffn=13,ctx=17"},
        {"qwen3", "qwen3:layers=1,dim=14,heads=2,kv_heads=1,head_size=10,ffn=13,ctx=17"},
    };
    return models;
}

// Like tiny_models(), but with widths that the GPU kernels can compute.
inline const std::vector<TinyModel>& tiny_cuda_models() {
    static const std::vector<TinyModel> models = {
        {"gpt2", "gpt2:layers=2,dim=24,heads=3,ctx=16,vocab=37,init_std=0.2"},
        {"gpt2_untied", "gpt2:layers=1,dim=16,heads=2,ffn=40,ctx=16,vocab=131,tied=false,init_std=0.2"},
        {"llama", "llama:layers=2,dim=24,heads=2,kv_heads=1,ffn=24,ctx=16,vocab=37,init_std=0.2,tied=false"},
        {"llama3",
         "llama:layers=1,dim=24,heads=4,kv_heads=1,head_size=16,ffn=32,ctx=16,vocab=41,init_std=0.2,rope_factor=8,"
         "rope_original=8,theta=100"},
        {"yarn",
         "llama:layers=1,dim=24,heads=4,kv_heads=1,head_size=16,ffn=32,ctx=16,vocab=41,init_std=0.2,rope_type=yarn,"
         "rope_factor=4,rope_original=8,theta=100"},
        {"qwen2", "qwen2:layers=2,dim=32,heads=4,kv_heads=2,ffn=40,ctx=16,vocab=37,init_std=0.2"},
        {"qwen3", "qwen3:layers=2,dim=24,heads=3,kv_heads=1,head_size=24,ffn=40,ctx=16,vocab=37,init_std=0.2"},
        // Their head sizes have flash attention kernels.
        {"gpt2_flash", "gpt2:layers=2,dim=64,heads=2,ctx=16,vocab=37,init_std=0.1"},
        {"llama_flash",
         "llama:layers=1,dim=32,heads=4,kv_heads=2,head_size=32,ffn=24,ctx=16,vocab=37,init_std=0.15,tied=false"},
        {"qwen2_flash", "qwen2:layers=1,dim=32,heads=2,kv_heads=1,head_size=64,ffn=40,ctx=16,vocab=37,init_std=0.15"},
        {"qwen3_flash", "qwen3:layers=2,dim=24,heads=3,kv_heads=1,head_size=32,ffn=40,ctx=16,vocab=37,init_std=0.2"},
    };
    return models;
}

// Tokens and targets of B sequences of T, numbered from first_sample on; some targets are ignored.
struct TinyBatch {
    std::vector<int> tokens, targets;
    uint64_t first_sample;
    TinyBatch(int B, int T, int V, uint64_t first_sample_ = 0) : first_sample(first_sample_) {
        for (int b = 0; b < B; b++) {
            for (int t = 0; t < T; t++) {
                const Philox4 words = philox4x32(99, uint32_t(first_sample + b), uint32_t(t), 0, 0);
                tokens.push_back(int(words.v[0] % uint32_t(V)));
                targets.push_back(words.v[2] % 7 == 0 ? -1 : int(words.v[1] % uint32_t(V)));
            }
        }
    }
    Batch batch() const { return {tokens.data(), targets.data(), first_sample}; }
};

inline std::vector<float> read_all(const Engine& engine, const Arena& arena) {
    std::vector<float> values(size_t(count_parameters(engine.config())));
    engine.read(arena, 0, values);
    return values;
}

// The weights of init_weights, but vectors are neither 0 nor 1: a bias of 0 would test nothing.
inline void randomise(Engine& engine, uint64_t seed) {
    engine.init_weights(seed);
    std::vector<float> values = read_all(engine, Arena::params);
    for (size_t i = 0; i < values.size(); i++) {
        if (values[i] == 0 || values[i] == 1) {
            values[i] += 0.4f * (uniform01(philox4x32(seed, uint32_t(i), 7, 7, 7).v[0]) - 0.5f);
        }
    }
    engine.write(Arena::params, 0, values);
}

}  // namespace kiln::testing
