#pragma once
// The options of train_gpt2 and train_gpt2cu. Each has a long name; those of llm.c also have its short name.
#include <cstdint>
#include <string>

#include "tools/cli/options.h"
#include "tools/launch/world.h"

namespace kiln {

inline constexpr int kMaxBatch = 65536;  // sequences in a micro-batch

struct TrainOptions {
    // Data and model
    std::string data, val_data, model, tokenizer, output;
    bool resume = false, overwrite = false, force = false;
    // Batch and length
    int B = 4, T = 0;                // B 0: the largest that fits; T 0: min(context, 1024)
    int64_t total_batch_tokens = 0;  // 0: one micro-batch per rank
    int64_t max_steps = -1;          // -1: `epochs` decides
    double epochs = 1;
    uint64_t seed = 1337;
    bool overfit_one_batch = false;
    // Optimizer
    std::string schedule = "cosine";
    double learning_rate = 3e-4, final_fraction = 0.1, decay_fraction = 0.2;
    int64_t warmup_steps = 0;
    float beta1 = 0.9f, beta2 = 0.95f, eps = 1e-8f, weight_decay = 0.1f, grad_clip = 1.0f;
    double skip_loss_z = 0, skip_norm_z = 0;  // 0: never
    std::string on_nonfinite = "skip";
    // Validation and samples
    int64_t val_every = 250, val_max_batches = 20, sample_every = 0;
    bool eval_only = false;
    std::string prompt;
    int sample_tokens = 64, top_k = 0;
    float temperature = 1, top_p = 1;
    // Checkpoints
    int64_t checkpoint_every = 250, major_every = 0;
    int keep = 3;
    bool async_save = true;
    // Precision and memory
    std::string dtype = "auto", grad_dtype = "float32", moment_dtype = "float32", attention = "auto";
    int zero_stage = 0;
    std::string reduce_dtype = "float32";
    bool tf32 = false, master_weights = true, deterministic_matmuls = false, cuda_graphs = true;
    int recompute = 0, gelu_fusion = 0, lm_head_chunks = 0;
    // Machine
    int threads = 0;
    int64_t log_every = 0, gpu_log_every = 0;
    bool dry_run = false;
    std::string gpu, memory;  // of the device to plan for, with dry_run
    int capability = 0;       // Device::capability; not an option
    int ranks = 1;            // not an option
    LaunchOptions launch;     // of this start alone
};

void add_train_options(OptionSet& set, TrainOptions& o);

}  // namespace kiln
