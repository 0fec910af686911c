#pragma once
// An engine computes with one model. This is its interface, the same on a CPU and on a GPU. A program calls it a few
// times in each step.
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cpu_reference/interface/communicator.h"
#include "cpu_reference/interface/model_config.h"
#include "cpu_reference/interface/optimizer.h"
#include "cpu_reference/interface/sampler.h"

namespace kiln {

enum class Precision : uint8_t { float32, bfloat16, float16 };   // of weights, activations and matmuls
enum class AttentionKind : uint8_t { automatic, flash, plain };  // flash: on tensor cores; automatic: flash if possible

struct EngineOptions {
    int B = 4, T = 64;     // shape of a micro-batch
    bool training = true;  // false: weights only; no forward_backward, gradients or optimizer state
    Optimizer optimizer = Optimizer::adamw;
    // All options from here on, except `ranks`, are for GPUs. The CPU engine computes in float32 and refuses other
    // precisions, and ZeRO stages.
    Precision precision = Precision::float32;
    bool tf32 = false;              // float32 matmuls round their inputs to 10 bits of mantissa
    bool master_weights = true;     // float32 copies of narrow weights; without them updates round stochastically
    bool narrow_gradients = false;  // stored and accumulated in `precision` instead of float32
    bool narrow_moments = false;    // the optimizer state is bfloat16 instead of float32
    int recompute = 0;              // the backward pass recomputes: 1 the MLP's activation, 2 norms too, 3 whole blocks
    int fused_gelu = 0;             // 1: GELU is part of the matmul before it; 2: so is its gradient
    AttentionKind attention = AttentionKind::automatic;
    int capability = 0;      // 90: plan the memory for a GPU of sm_90; 0: for the current GPU
    int lm_head_chunks = 0;  // the LM head computes at least so many chunks of rows; 0: the logits stay within 1 GiB
    // The rows of each LM head matmul do not depend on lm_head_chunks, so the bits of the result do not, either.
    bool fixed_lm_head_chunks = false;
    int ranks = 1;  // the size of the communicator in make_engine
    // The stage of ZeRO: which parts of the training state are partitioned between the ranks.  arXiv:1910.02054
    int zero_stage = 0;          // 0: none; 1: optimizer state and master weights; 2: gradients too; 3: parameters too
    bool narrow_reduce = false;  // float32 gradients are summed over the ranks in `precision`
    int matmul_candidates = 6;   // algorithms to time at the first use of a shape; 1: take the first that works
    bool graphs = true;          // launch a micro-step without dropout, or a decoded token, as one CUDA graph
    uint64_t seed = 0;           // of stochastic rounding
};

// An arena of a model, laid out as param_table(config) says: the parameters, the gradients, or the state of the
// optimizer that has this name in optimizer_info.
struct Arena {
    std::string_view name;
    static const Arena params, gradients;
    bool operator==(const Arena&) const = default;
};
inline constexpr Arena Arena::params{"parameters"}, Arena::gradients{"gradients"};

// Elements of an arena that follow each other.
struct ArenaStretch {
    size_t offset, elems;
};

struct Batch {
    const int* tokens;   // (B, T)
    const int* targets;  // (B, T); -1: ignored
    // The number of sequence 0 in the run's order of samples. The dropout mask of sequence b depends on (seed,
    // first_sample + b), so it does not depend on how micro-batches and ranks divide a batch.
    uint64_t first_sample = 0;
    // The last micro-batch of the step. Its backward pass completes the sums of the gradients over all ranks. It has no
    // effect if there is one rank.
    bool last = false;
};

struct LossSum {
    double sum = 0;      // of the losses of all targets that are not -1, in nats
    int64_t tokens = 0;  // number of these targets
};

// The result of a queued step.
struct StepResult {
    LossSum loss;
    double norm;  // of the gradients, before clipping
    // On the device: from zero_gradients, or from the end of the step before if that is later, to the end.
    double seconds;
};

// Dynamic scaling of the loss in float16. Checkpoints contain it, so that a resumed run computes the same.
struct LossScale {
    float scale = 0;     // 0: nothing is scaled
    int good_steps = 0;  // since the scale changed
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
    // The peak of the device in the precision used, in FLOP/s; 0: not known. `reached` is the rate of a step. If it is
    // above a measured peak, it becomes the peak, because the device may have been busy during the measurement.
    virtual double peak_flops(double reached = 0) const = 0;
    virtual bool peak_is_measured() const { return true; }  // with a matmul; false: the vendor's number
    virtual std::string attention() const { return ""; }    // the kind in use, and why; empty: there is one kind
    virtual size_t memory_in_use_bytes() const = 0;         // GPU: of the engine; CPU: of the process

    // Whether each rank has only a part of the training state. Then all ranks must call read, evaluate and the
    // functions for generation together.
    virtual bool is_divided() const { return false; }
    // What this rank has of each arena of the optimizer's state. No other rank has it, and all ranks together have all.
    virtual std::vector<ArenaStretch> own_state() const { return {{0, size_t(count_parameters(config()))}}; }
    // As read, of elements of one of these stretches, without the other ranks.
    virtual void read_own_state(const Arena& arena, size_t offset_elems, std::span<float> out) const {
        read(arena, offset_elems, out);
    }
    virtual uint64_t bytes_sent() const { return 0; }  // since the engine was made; a CUDA graph counts once
    virtual void init_weights(uint64_t seed) = 0;      // also zeroes the optimizer state
    virtual void read(const Arena& arena, size_t offset_elems, std::span<float> out) const = 0;
    virtual void write(const Arena& arena, size_t offset_elems, std::span<const float> in) = 0;

    // Training. gradients += grad_scale * d(sum of the losses of `batch`)/d(params); the loss itself is added to the
    // sum that take_loss returns. Dropout is on, keyed by `seed` and Batch::first_sample.
    virtual void zero_gradients() = 0;
    virtual void forward_backward(const Batch& batch, float grad_scale, uint64_t seed) = 0;
    virtual LossSum take_loss() = 0;  // this rank's sum since the last call; waits for the device
    // The L2 norm of all gradients; not finite if one of them is not. If the loss scale made a gradient infinite, the
    // scale is halved, but never below 1.
    virtual double gradient_norm() = 0;
    virtual void update(const OptimizerStep& step) = 0;

    virtual LossScale loss_scale() const { return {}; }
    virtual void set_loss_scale(const LossScale&) {}

    // If true, a step may end with queue_update instead of take_loss, gradient_norm and update, and then it does not
    // wait for the device. queue_update computes the norm, scales the gradients down to max_norm (0: never; it ignores
    // step.grad_scale) and updates, unless the norm or the loss is not finite. At most two updates may be queued that
    // take_update has not returned.
    virtual bool can_queue_updates() const { return false; }
    virtual void queue_update(const OptimizerStep& step, float max_norm);
    virtual StepResult take_update();  // of the oldest queued update; waits for it

    // Without dropout. losses (B, T): 0 at ignored targets; may be null.
    virtual LossSum evaluate(const Batch& batch, float* losses = nullptr) = 0;

    // Generation with a KV cache: each slot holds one sequence of at most max_T tokens. Throws Error if a sequence
    // would become longer. open_cache frees the earlier cache; with slots = 0 it does nothing else.
    virtual void open_cache(int slots, int max_T) = 0;
    virtual void clear_slot(int slot) = 0;
    virtual int slot_length(int slot) const = 0;
    // Appends `tokens` to the sequence in the slot. logits (V): after the last token.
    virtual void prefill(int slot, std::span<const int> tokens, float* logits) = 0;
    // Appends tokens[i] to the sequence in slots[i]; no slot may occur twice. logits (n, V).
    virtual void decode(std::span<const int> slots, std::span<const int> tokens, float* logits) = 0;
    // The same, but what the sampler draws from the logits instead of the logits: a GPU draws the token itself. The
    // position of a drawn token is the length of its sequence. next (n). Throws what Sampler::sample throws.
    virtual int prefill_and_sample(int slot, std::span<const int> tokens, Sampler& sampler, uint64_t sample_number);
    virtual void decode_and_sample(std::span<const int> slots, std::span<const int> tokens, Sampler& sampler,
                                   std::span<const uint64_t> sample_numbers, int* next);

private:
    std::vector<float> logits_;  // (n, V) of the last call of the two functions above
};

// Each backend library defines these two functions, and a program is linked against one of them. make_engine allocates
// all memory of the training step. `ranks` has options.ranks ranks and must outlive the engine; null: there is one.
// With several ranks, all must call forward_backward, gradient_norm, update, init_weights and write in the same order.
// Only the batches may differ. Then every rank gets the same gradients, norm and weights. If is_divided(), the calls
// named there must be made together, too. Throws Error if there is too little memory.
std::unique_ptr<Engine> make_engine(const ModelConfig& config, const EngineOptions& options,
                                    Communicator* ranks = nullptr);

// The bytes that each of options.ranks ranks sends in a step of `micro_batches` micro-batches.
uint64_t plan_bytes_sent(const ModelConfig& config, const EngineOptions& options, int micro_batches);

// The memory that make_engine will need, by kind, including that of libraries and workspaces.
std::vector<MemoryItem> plan_memory(const ModelConfig& config, const EngineOptions& options);

}  // namespace kiln
