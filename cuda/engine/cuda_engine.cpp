// Engine on one GPU of one or several ranks: arenas bound by the tables, one stream for the computation, one that
// copies batches, and one for what the ranks exchange.
#include "cuda/engine/cuda_engine.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "cpu_reference/interface/engine_checks.h"
#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/rope_table.h"
#include "cuda/device/device_peak.h"
#include "cuda/device/transfer.h"
#include "cuda/engine/arenas.h"
#include "cuda/engine/attention_choice.h"
#include "cuda/engine/batch_sender.h"
#include "cuda/engine/decoder.h"
#include "cuda/engine/engine_shape.h"
#include "cuda/engine/generation.h"

namespace kiln {
namespace {

constexpr size_t kMaxLosses = 4096;  // micro-batches between two calls of take_loss that need no wait
constexpr float kFirstLossScale = 65536, kMaxLossScale = 16777216;
constexpr size_t kMaxGraphs = 16;
constexpr int kGoodStepsToGrow = 2000;

size_t free_bytes() {
    size_t free = 0, total = 0;
    CUDA_CHECK(cudaMemGetInfo(&free, &total));
    return free;
}

// E of weights and activations, G of gradients, M of moments.
template <class E, class G, class M>
class CudaEngine final : public Engine {
public:
    CudaEngine(const ModelConfig& config, const EngineOptions& options, Communicator* ranks, Profiler* profiler);
    ~CudaEngine() override { cudaDeviceSynchronize(); }  // before memory that is in use is freed

    const ModelConfig& config() const override { return config_; }
    Optimizer optimizer() const override { return options_.optimizer; }
    std::string device_name() const override;
    // Not measured again, which would take memory and time within a run. On the emulator it stays 0.
    double peak_flops(double reached) const override {
        if (peak_.measured && peak_.flops > 0) peak_.flops = std::max(peak_.flops, reached);
        return peak_.flops;
    }
    bool peak_is_measured() const override { return peak_.measured; }
    std::string attention() const override { return choose_attention(config_, options_).text; }
    size_t memory_in_use_bytes() const override;

    bool is_divided() const override { return arenas_.is_divided(); }
    uint64_t bytes_sent() const override {
        return arenas_.exchange() ? arenas_.exchange()->communicator().bytes_sent() : 0;
    }
    void init_weights(uint64_t seed) override {
        const auto waits = waiting();
        arenas_.init(seed);
    }
    void read(const Arena& arena, size_t offset_elems, std::span<float> out) const override;
    void write(const Arena& arena, size_t offset_elems, std::span<const float> in) override;
    std::vector<ArenaStretch> own_state() const override { return arenas_.own_state(); }
    void read_own_state(const Arena& arena, size_t offset_elems, std::span<float> out) const override {
        require_training(options_, arena.name);
        arenas_.read_own_state(arena, offset_elems, out);
    }

    void zero_gradients() override {
        gradients_clear_ = true;
        step_.emplace("step", steps_++);
        QueuedUpdate& next = queued_[updates_queued_ % queued_.size()];
        next.follows = updates_queued_ > updates_taken_;
        if (!next.follows) next.begin.record(stream_);
    }
    void forward_backward(const Batch& batch, float grad_scale, uint64_t seed) override;
    LossSum take_loss() override;
    double gradient_norm() override;
    void update(const OptimizerStep& step) override;
    LossScale loss_scale() const override { return std::is_same_v<E, __half> ? loss_scale_ : LossScale{}; }
    void set_loss_scale(const LossScale& scale) override;
    // In float16 the loss scale of the next step depends on whether this step overflowed.
    bool can_queue_updates() const override { return !std::is_same_v<E, __half>; }
    void queue_update(const OptimizerStep& step, float max_norm) override;
    StepResult take_update() override;
    LossSum evaluate(const Batch& batch, float* losses) override;

    void open_cache(int slots, int max_T) override {
        if (slots > 0) take_rope_table(max_T);
        generation_.open(config_, slots, max_T, can_capture() && !profiler_, stream_);
    }
    void clear_slot(int slot) override { generation_.clear_slot(slot); }
    int slot_length(int slot) const override { return generation_.slot_length(slot); }
    void prefill(int slot, std::span<const int> tokens, float* logits) override {
        const auto waits = waiting();
        generation_.prefill(context(1, 1), slot, tokens, logits);
    }
    void decode(std::span<const int> slots, std::span<const int> tokens, float* logits) override {
        const auto waits = waiting();
        generation_.decode(context(1, 1), slots, tokens, logits);
    }
    int prefill_and_sample(int slot, std::span<const int> tokens, Sampler& sampler, uint64_t sample_number) override {
        const auto waits = waiting();
        return generation_.prefill_and_sample(context(1, 1), slot, tokens, sampler, sample_number);
    }
    void decode_and_sample(std::span<const int> slots, std::span<const int> tokens, Sampler& sampler,
                           std::span<const uint64_t> sample_numbers, int* next) override {
        const auto waits = waiting();
        generation_.decode_and_sample(context(1, 1), slots, tokens, sampler, sample_numbers, next);
    }

private:
    // In each call that waits for the device, or for room in its queue: the device may wait for another rank.
    std::shared_ptr<void> waiting() const { return ranks_ ? ranks_->waiting() : nullptr; }
    void fill_gradients_if_clear();
    void take_rope_table(int max_T);
    DeviceContext<E> context(int B, int T);
    void queue_micro_step(const DeviceContext<E>& ctx, const DeviceBatch& batch, float grad_scale, bool accumulate,
                          bool last);
    bool has_dropout() const;
    // A part of the state of other ranks arrives by events of the step before, which a capture cannot wait for.
    bool can_capture() const { return options_.graphs && (!arenas_.exchange() || options_.zero_stage == 0); }
    struct MicroStep {
        size_t set;
        bool accumulate, last;
        float grad_scale;
        int times = 0;
        Graph graph = {};
    };
    MicroStep* kind_of(size_t set, bool accumulate, bool last, float grad_scale);
    template <class Work>
    void in(Group group, Work work) const {
        const GroupRange range(profiler_, group, stream_);
        work();
    }
    void drain_losses();
    void check_ranks() const {
        if (arenas_.exchange()) arenas_.exchange()->communicator().check();
    }
    void queue_norm(float max_norm, size_t losses);

    ModelConfig config_;
    EngineOptions options_;
    Communicator* ranks_;  // null: there is one
    DeviceShape shape_;
    mutable DevicePeak peak_;
    size_t free_before_ = free_bytes();  // before the engine's own memory
    Profiler* profiler_;
    Stream stream_;
    Matmul matmul_;
    DeviceArenas<E, G, M> arenas_;
    DeviceBuffer<unsigned char> activations_;
    DeviceActivations<E> acts_;
    DeviceBuffer<float> rope_table_;
    int rope_T_ = 0;
    bool gradients_clear_ = true;
    bool gradients_summed_ = true;   // over the ranks
    std::optional<NvtxRange> step_;  // from zero_gradients to the update
    int64_t steps_ = 0;

    BatchSender batches_;
    std::vector<MicroStep> micro_steps_;
    DeviceBuffer<float> loss_sums_;  // of the micro-batches since take_loss
    size_t losses_waiting_ = 0;
    LossSum loss_;

    struct Scalars {  // in device memory
        float sum_of_squares, norm, grad_scale, loss_scale, loss;
        int non_finite;
    };
    DeviceBuffer<Scalars> scalars_;
    PinnedBuffer<Scalars> host_scalars_;
    struct QueuedUpdate {
        PinnedBuffer<Scalars> scalars{1};
        PinnedBuffer<float> losses{kMaxLosses};
        Event begin, done;
        bool follows = false;  // when this step began, the step before it was queued but not taken
        size_t micro_batches = 0;
        LossSum before;  // what take_loss would return without `losses`
    };
    static constexpr uint64_t kMaxQueued = 2;
    std::array<QueuedUpdate, kMaxQueued + 1> queued_;  // and the one before them
    uint64_t updates_queued_ = 0, updates_taken_ = 0;
    LossScale loss_scale_{1};
    mutable size_t memory_bytes_ = 0;  // at the last call of memory_in_use_bytes

    Generation<E> generation_;
};

template <class E, class G, class M>
CudaEngine<E, G, M>::CudaEngine(const ModelConfig& config, const EngineOptions& options, Communicator* ranks,
                                Profiler* profiler)
    : config_(config),
      options_(options),
      ranks_(ranks),
      shape_(device_shape(config, options)),
      peak_(options.training ? device_peak<E>(options.tf32) : DevicePeak()),
      profiler_(profiler),
      matmul_({.candidates = options.matmul_candidates, .tf32 = options.tf32}),
      arenas_(config, options, ranks, stream_),
      batches_(options.B * options.T, config.V) {
    if (options.training) loss_sums_ = DeviceBuffer<float>(kMaxLosses);
    activations_ = DeviceBuffer<unsigned char>(device_activation_bytes<E>(config_, shape_)[0]);
    acts_ = bind_device_activations<E>(config_, shape_, activations_.get());
    scalars_ = DeviceBuffer<Scalars>(1);
    host_scalars_ = PinnedBuffer<Scalars>(1);
    clear(scalars_.get(), 1, stream_);
    for (const QueuedUpdate& queued : queued_) queued.begin.record(stream_);
    if (options.training) set_loss_scale({kFirstLossScale});
    take_rope_table(options.T);
}

template <class E, class G, class M>
std::string CudaEngine<E, G, M>::device_name() const {
    cudaDeviceProp properties;
    int device = 0;
    CUDA_CHECK(cudaGetDevice(&device));
    CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
    return properties.name;
}

// The driver only knows what all processes use together, so this is what has been taken since the engine was made. It
// is called after every step, and the driver is slow to answer. The value does not change any more once every kind of
// micro-step has run.
template <class E, class G, class M>
size_t CudaEngine<E, G, M>::memory_in_use_bytes() const {
    if (steps_ > 4 && generation_.slots() == 0 && memory_bytes_ > 0) return memory_bytes_;
    const size_t free = free_bytes();
    return memory_bytes_ = free_before_ - std::min(free, free_before_);
}

template <class E, class G, class M>
void CudaEngine<E, G, M>::take_rope_table(int max_T) {
    switch (config_.position) {
        case Position::learned: return;
        case Position::rope: break;
    }
    if (max_T <= rope_T_) return;
    const std::vector<float> table = rope_table(config_, max_T);
    stream_.synchronize();
    rope_table_ = DeviceBuffer<float>(table.size());
    upload(rope_table_.get(), table.data(), table.size(), 1, stream_);
    rope_T_ = max_T;
    micro_steps_.clear();  // captured launches contain the address of the old table
}

template <class E, class G, class M>
void CudaEngine<E, G, M>::set_loss_scale(const LossScale& scale) {
    if (!std::is_same_v<E, __half>) return;
    loss_scale_ = scale;
    CUDA_CHECK(cudaMemcpyAsync(&scalars_.get()->loss_scale, &loss_scale_.scale, sizeof(float), cudaMemcpyHostToDevice,
                               stream_));
    stream_.synchronize();
}

template <class E, class G, class M>
DeviceContext<E> CudaEngine<E, G, M>::context(int B, int T) {
    if (arenas_.exchange()) arenas_.exchange()->begin_forward();
    return {.config = config_,
            .params = arenas_.params(),
            .rope_table = rope_table_.get(),
            .matmul = matmul_,
            .stream = stream_,
            .B = B,
            .T = T,
            .recompute = shape_.recompute,
            .lm_head_chunk = shape_.lm_head_chunk,
            .fused_gelu = options_.fused_gelu,
            .flash = shape_.flash,
            .profiler = profiler_,
            .hooks = arenas_.exchange()};
}

template <class E, class G, class M>
void CudaEngine<E, G, M>::read(const Arena& arena, size_t offset, std::span<float> out) const {
    const auto waits = waiting();
    if (arena != Arena::params) require_training(options_, arena.name);
    const bool zero = arena == Arena::gradients && gradients_clear_;
    arenas_.read(arena, offset, out, zero ? 0 : 1 / loss_scale_.scale);
}

template <class E, class G, class M>
void CudaEngine<E, G, M>::write(const Arena& arena, size_t offset, std::span<const float> in) {
    const auto waits = waiting();
    if (arena != Arena::params) require_training(options_, arena.name);
    if (arena == Arena::gradients) fill_gradients_if_clear();
    arenas_.write(arena, offset, in, 1 / loss_scale_.scale);
}

template <class E, class G, class M>
void CudaEngine<E, G, M>::fill_gradients_if_clear() {
    if (!gradients_clear_) return;
    arenas_.clear_gradients();
    gradients_clear_ = false;
}

// Everything that a micro-step queues after its batch. The same arguments always give the same calls.
template <class E, class G, class M>
void CudaEngine<E, G, M>::queue_micro_step(const DeviceContext<E>& ctx, const DeviceBatch& batch, float grad_scale,
                                           bool accumulate, bool last) {
    const int N = options_.B * options_.T, lm_head_rows = shape_.lm_head_rows;
    Exchange<E, G>* const exchange = arenas_.exchange();
    const bool adds = accumulate && arenas_.passes_accumulate();
    if (exchange) exchange->before_gradients(0);
    if (!adds) in(Group::copies, [&] { arenas_.clear_embedding_gradients(); });
    const float* const loss_scale = std::is_same_v<E, __half> ? &scalars_.get()->loss_scale : nullptr;
    decoder_forward(ctx, acts_, batch.tokens);
    if (exchange) exchange->begin_backward(accumulate, last);
    for (int first = 0; first < N; first += lm_head_rows) {
        const int rows = std::min(lm_head_rows, N - first);
        lm_head_forward(ctx, acts_, batch.targets, grad_scale, loss_scale, first, rows);
        lm_head_backward(ctx, acts_, arenas_.grads(), first, rows, adds || first > 0);
    }
    in(Group::loss, [&] { sum_losses(&scalars_.get()->loss, acts_.losses, N, stream_); });
    decoder_backward(ctx, acts_, arenas_.grads(), batch.rows, adds);
    if (exchange) exchange->join();
}

template <class E, class G, class M>
void CudaEngine<E, G, M>::forward_backward(const Batch& batch, float grad_scale, uint64_t seed) {
    const auto waits = waiting();
    require_training(options_, "forward_backward");
    const NvtxRange micro_step("micro-step, first sample", int64_t(batch.first_sample));
    const DeviceBatch on_device = batches_.send(batch, stream_, profiler_);
    DeviceContext<E> ctx = context(options_.B, options_.T);
    ctx.training = true;
    ctx.seed = seed;
    ctx.first_sample = batch.first_sample;
    const bool accumulate = !gradients_clear_;
    const bool last = batch.last && arenas_.exchange();
    const auto queue = [&] { queue_micro_step(ctx, on_device, grad_scale, accumulate, last); };
    // The second micro-step of a kind is captured, because by then every matmul has its plan.
    const bool graphs = can_capture() && !has_dropout() && !profiler_;
    MicroStep* const kind = graphs ? kind_of(on_device.set, accumulate, last, grad_scale) : nullptr;
    if (!kind || kind->times++ == 0) {
        queue();
    } else {
        if (!kind->graph) kind->graph = Graph(stream_, queue);
        kind->graph.launch(stream_);
    }
    if (losses_waiting_ == kMaxLosses) drain_losses();
    in(Group::copies, [&] {
        CUDA_CHECK(cudaMemcpyAsync(loss_sums_.get() + losses_waiting_++, &scalars_.get()->loss, sizeof(float),
                                   cudaMemcpyDeviceToDevice, stream_));
    });
    batches_.used(stream_);
    gradients_clear_ = false;
    gradients_summed_ = last || !arenas_.exchange();
    loss_.tokens += on_device.targets_counted;
}

// Dropout masks depend on the sample's number, an argument of the launches that a captured launch cannot change.
template <class E, class G, class M>
bool CudaEngine<E, G, M>::has_dropout() const {
    return config_.dropout_embedding > 0 || config_.dropout_residual > 0 || config_.dropout_attention > 0;
}

template <class E, class G, class M>
auto CudaEngine<E, G, M>::kind_of(size_t set, bool accumulate, bool last, float grad_scale) -> MicroStep* {
    for (MicroStep& kind : micro_steps_) {
        if (kind.set == set && kind.accumulate == accumulate && kind.last == last && kind.grad_scale == grad_scale) {
            return &kind;
        }
    }
    if (micro_steps_.size() == kMaxGraphs) return nullptr;  // the caller changes the scale too often
    return &micro_steps_.emplace_back(MicroStep{set, accumulate, last, grad_scale});
}

template <class E, class G, class M>
void CudaEngine<E, G, M>::drain_losses() {
    std::vector<float> sums(losses_waiting_);
    download(sums.data(), loss_sums_.get(), sums.size(), 1, stream_);
    check_ranks();
    for (const float sum : sums) loss_.sum += sum;
    losses_waiting_ = 0;
}

template <class E, class G, class M>
LossSum CudaEngine<E, G, M>::take_loss() {
    const auto waits = waiting();
    drain_losses();
    return std::exchange(loss_, {});
}

// Queues into scalars_: the norm of the gradients, the factor that undoes the loss scale and clips to max_norm, and
// whether the gradients and the first `losses` of loss_sums_ are finite.
template <class E, class G, class M>
void CudaEngine<E, G, M>::queue_norm(float max_norm, size_t losses) {
    const GroupRange range(profiler_, Group::optimizer, stream_);
    KILN_CHECK(gradients_summed_,
               "engine: the last micro-batch of the step was not marked (Batch::last), so the ranks "
               "have different gradients");
    Scalars* const s = scalars_.get();
    arenas_.sum_of_squares(&s->sum_of_squares, acts_.scratch);
    gradient_scale(GradientScale{&s->grad_scale, &s->norm, &s->non_finite, &s->sum_of_squares, loss_sums_.get(),
                                 int(losses), 1 / loss_scale_.scale, max_norm},
                   stream_);
}

template <class E, class G, class M>
double CudaEngine<E, G, M>::gradient_norm() {
    const auto waits = waiting();
    require_training(options_, "gradient_norm");
    if (gradients_clear_) return 0.0;
    queue_norm(0, 0);
    CUDA_CHECK(cudaMemcpyAsync(host_scalars_.get(), scalars_.get(), sizeof(Scalars), cudaMemcpyDeviceToHost, stream_));
    stream_.synchronize();
    check_ranks();
    if (host_scalars_[0].non_finite == 0) return host_scalars_[0].norm;
    // After an overflow the loss scale is halved.
    if (loss_scale_.scale > 1) set_loss_scale({loss_scale_.scale / 2});
    return std::numeric_limits<double>::infinity();
}

template <class E, class G, class M>
void CudaEngine<E, G, M>::update(const OptimizerStep& step) {
    const auto waits = waiting();
    require_training(options_, "update");
    fill_gradients_if_clear();
    stream_.synchronize();  // a copy from host_scalars_ may still be queued
    host_scalars_[0].grad_scale = step.grad_scale / loss_scale_.scale;
    CUDA_CHECK(cudaMemcpyAsync(&scalars_.get()->grad_scale, &host_scalars_.get()->grad_scale, sizeof(float),
                               cudaMemcpyHostToDevice, stream_));
    in(Group::optimizer, [&] { arenas_.update(step, &scalars_.get()->grad_scale, nullptr, options_.seed); });
    step_.reset();
    if (std::is_same_v<E, __half> && ++loss_scale_.good_steps >= kGoodStepsToGrow &&
        loss_scale_.scale < kMaxLossScale) {
        gradients_clear_ = true;  // they have the old scale, and are used already
        set_loss_scale({2 * loss_scale_.scale});
    }
}

template <class E, class G, class M>
void CudaEngine<E, G, M>::queue_update(const OptimizerStep& step, float max_norm) {
    require_training(options_, "update");
    KILN_CHECK(updates_queued_ - updates_taken_ < kMaxQueued, "engine: ", kMaxQueued, " updates are queued already");
    fill_gradients_if_clear();
    queue_norm(max_norm, losses_waiting_);
    if (std::isfinite(loss_.sum)) {  // the losses that are no longer in loss_sums_
        in(Group::optimizer,
           [&] { arenas_.update(step, &scalars_.get()->grad_scale, &scalars_.get()->non_finite, options_.seed); });
    }
    step_.reset();
    QueuedUpdate& queued = queued_[updates_queued_++ % queued_.size()];
    queued.micro_batches = std::exchange(losses_waiting_, 0);
    queued.before = std::exchange(loss_, {});
    CUDA_CHECK(cudaMemcpyAsync(queued.losses.get(), loss_sums_.get(), queued.micro_batches * sizeof(float),
                               cudaMemcpyDeviceToHost, stream_));
    CUDA_CHECK(cudaMemcpyAsync(queued.scalars.get(), scalars_.get(), sizeof(Scalars), cudaMemcpyDeviceToHost, stream_));
    queued.done.record(stream_);
}

template <class E, class G, class M>
StepResult CudaEngine<E, G, M>::take_update() {
    KILN_CHECK(updates_taken_ < updates_queued_, "engine: no update was queued");
    const QueuedUpdate& before = queued_[(updates_taken_ + kMaxQueued) % queued_.size()];
    const QueuedUpdate& queued = queued_[updates_taken_++ % queued_.size()];
    queued.done.synchronize();
    float ms = 0;
    CUDA_CHECK(cudaEventElapsedTime(&ms, queued.follows ? before.done : queued.begin, queued.done));
    StepResult result{queued.before, queued.scalars[0].norm, 1e-3 * double(ms)};
    for (size_t i = 0; i < queued.micro_batches; i++) result.loss.sum += queued.losses[i];
    if (!std::isfinite(result.norm)) result.norm = std::numeric_limits<double>::infinity();
    return result;
}

template <class E, class G, class M>
LossSum CudaEngine<E, G, M>::evaluate(const Batch& batch, float* losses) {
    const auto waits = waiting();
    const DeviceBatch on_device = batches_.send(batch, stream_, profiler_);
    LossSum total{0, on_device.targets_counted};
    const DeviceContext<E> ctx = context(options_.B, options_.T);
    const int N = options_.B * options_.T, lm_head_rows = shape_.lm_head_rows;
    decoder_forward(ctx, acts_, on_device.tokens);
    for (int first = 0; first < N; first += lm_head_rows) {
        lm_head_forward(ctx, acts_, on_device.targets, 0.0f, nullptr, first, std::min(lm_head_rows, N - first));
    }
    batches_.used(stream_);
    std::vector<float> each(losses ? 0 : N);
    float* const into = losses ? losses : each.data();
    download(into, acts_.losses, N, 1, stream_);
    for (int n = 0; n < N; n++) total.sum += into[n];
    return total;
}

}  // namespace

std::unique_ptr<Engine> make_cuda_engine(const ModelConfig& config, const EngineOptions& options, Communicator* ranks,
                                         Profiler* profiler) {
    check_engine(config, options);
    return with_engine_types(options, [&]<class E, class G, class M>(E, G, M) -> std::unique_ptr<Engine> {
        return std::make_unique<CudaEngine<E, G, M>>(config, options, ranks, profiler);
    });
}

}  // namespace kiln
