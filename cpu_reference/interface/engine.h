#pragma once
// What a program needs of a model, whatever computes it. Crossed a few times a step, never inside one.
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cpu_reference/interface/communicator.h"
#include "cpu_reference/interface/model_config.h"
#include "cpu_reference/interface/optimizer.h"

namespace kiln {

enum class Precision : uint8_t { float32, bfloat16, float16 };   // of weights, activations and products
enum class AttentionKind : uint8_t { automatic, flash, plain };  // flash: on tensor cores; automatic: where it can be

struct EngineOptions {
    int B = 4, T = 64;     // shape of a micro-batch
    bool training = true;  // false: weights only; no forward_backward, gradients or optimizer state
    Optimizer optimizer = Optimizer::adamw;
    // The rest is of GPUs: the CPU engine computes in float32 and takes no other precision.
    Precision precision = Precision::float32;
    bool tf32 = false;              // float32 products from inputs of 10 bits of mantissa
    bool master_weights = true;     // beside narrow weights; without, updates are rounded stochastically
    bool narrow_gradients = false;  // kept and accumulated in `precision` instead of float32
    bool narrow_moments = false;    // bfloat16
    int recompute = 0;              // in the backward pass: 1 the MLP's activation, 2 norms too, 3 whole blocks
    int fused_gelu = 0;             // 1: in the product before it; 2: its gradient too
    AttentionKind attention = AttentionKind::automatic;
    int lm_head_chunks = 0;  // the head's rows in so many parts; 0: so that logits take at most 1 GiB
    bool fixed_lm_head_chunks =
        false;                  // the head's products over pieces of rows that no lm_head_chunks changes, nor a bit
    int matmul_candidates = 6;  // algorithms timed at the first use of a shape; 1: none, the library's first
    bool graphs = true;         // give the device a micro-step in one call, where nothing drops out
    uint64_t seed = 0;          // of stochastic rounding
};

// An arena of a model, laid out as param_table(config) says: the parameters, the gradients, or the state of the
// optimizer that has this name in optimizer_info.
struct Arena {
    std::string_view name;
    static const Arena params, gradients;
    bool operator==(const Arena&) const = default;
};
inline constexpr Arena Arena::params{"parameters"}, Arena::gradients{"gradients"};

struct Batch {
    const int* tokens;          // (B, T)
    const int* targets;         // (B, T); -1: ignored
    uint64_t first_sample = 0;  // number of row 0 in the run's order of samples: row b drops out by (seed, first_sample
                                // + b), so masks do not depend on how a batch is cut into micro-batches and ranks
};

struct LossSum {
    double sum = 0;      // of the losses of the tokens counted, nats
    int64_t tokens = 0;  // targets that were not -1
};

// What became of a step that was queued.
struct StepResult {
    LossSum loss;
    double norm;     // of the gradients, before clipping
    double seconds;  // on the device since zero_gradients or, if that came before its end, since the end of the step
                     // before
};

// Dynamic scaling of the loss in float16: part of what an exact resume needs.
struct LossScale {
    float scale = 0;     // 0: nothing is scaled
    int good_steps = 0;  // since it changed
};

struct MemoryItem {
    std::string kind;  // "parameters", "gradients", "optimizer state", "activations", ...
    size_t bytes;
};

class Engine {
public:
    virtual ~Engine() = default;
    virtual const ModelConfig& config() const = 0;
    virtual Optimizer optimizer() const { return Optimizer::adamw; }
    virtual std::string device_name() const = 0;
    virtual double peak_flops() const = 0;  // of the device in the precision used, per second; 0: not known
    virtual bool peak_is_measured() const { return true; }  // by a product; false: its maker states it
    virtual std::string attention() const { return ""; }    // which it was given, and why; empty: there is one
    virtual size_t memory_in_use_bytes() const = 0;         // now, by this process on this device

    virtual void init_weights(uint64_t seed) = 0;  // also zeroes the optimizer state
    virtual void read(const Arena& arena, size_t offset_elems, std::span<float> out) const = 0;
    virtual void write(const Arena& arena, size_t offset_elems, std::span<const float> in) = 0;

    // Training. gradients += grad_scale * d(sum of the losses of `batch`)/d(params); the loss itself is added to the
    // sum that take_loss returns. Dropout is on, keyed by `seed` and Batch::first_sample.
    virtual void zero_gradients() = 0;
    virtual void forward_backward(const Batch& batch, float grad_scale, uint64_t seed) = 0;
    virtual LossSum take_loss() = 0;  // the sum since the last call; waits for the device
    virtual void reduce_gradients(Communicator& communicator) = 0;
    // L2 over all gradients; NaN or infinity if any of them is. Lowers a loss scale that is to blame, down to 1.
    virtual double gradient_norm() = 0;
    virtual void update(const OptimizerStep& step) = 0;

    virtual LossScale loss_scale() const { return {}; }
    virtual void set_loss_scale(const LossScale&) {}

    // Where true, a step may end with queue_update in place of the last three, which waits for nothing: the norm,
    // scaling down to max_norm (0: never; step.grad_scale is not read), and the update, unless the norm or the loss is
    // not finite.
    // Its result is due before the second one after it is queued.
    virtual bool can_queue_updates() const { return false; }
    virtual void queue_update(const OptimizerStep& step, float max_norm);
    virtual StepResult take_update();  // of the oldest one queued; waits for it

    // Evaluation: no dropout. losses (B, T), 0 where ignored, may be null.
    virtual LossSum evaluate(const Batch& batch, float* losses = nullptr) = 0;

    // Generation over a KV cache with `slots` independent sequences of at most max_T tokens each. Throws Error when a
    // sequence outgrows its slot. Frees an earlier cache; slots = 0 frees it only.
    virtual void open_cache(int slots, int max_T) = 0;
    virtual void clear_slot(int slot) = 0;
    virtual int slot_length(int slot) const = 0;
    // Appends `tokens` to the slot's sequence. logits (V): of the last one.
    virtual void prefill(int slot, std::span<const int> tokens, float* logits) = 0;
    // Appends tokens[i] to slot slots[i], all different. logits (n, V).
    virtual void decode(std::span<const int> slots, std::span<const int> tokens, float* logits) = 0;
};

// Each backend library defines these once; a program is linked against one of them. All memory of the training step is
// allocated here. Throws Error if it cannot be had.
std::unique_ptr<Engine> make_engine(const ModelConfig& config, const EngineOptions& options);

// What make_engine will hold, by kind, including what the process needs besides (libraries, workspaces).
std::vector<MemoryItem> plan_memory(const ModelConfig& config, const EngineOptions& options);

}  // namespace kiln
