// The engine on a CPU, in float32, with OpenMP and oneDNN.
#include <omp.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <fstream>
#include <mutex>
#include <new>
#include <utility>

#include "cpu_reference/cpu_engine.h"
#include "cpu_reference/decoder.h"
#include "cpu_reference/interface/backend.h"
#include "cpu_reference/interface/engine_checks.h"
#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/tensors.h"
#include "cpu_reference/interface/text.h"
#include "cpu_reference/memory.h"
#include "cpu_reference/ops/gemm.h"
#include "cpu_reference/ops/ops.h"

namespace kiln {
namespace {

// Measured: the libraries, the matrices that oneDNN packs, and arenas rounded up to huge pages.
constexpr size_t kProcessBytes = size_t(24) << 20;
constexpr int kPrefillRows = 256;  // tokens of a prompt that prefill computes at a time

// At the first matmul of a kind oneDNN generates code for all of that kind, and writes it without looking whether it
// got memory. All kinds take 15 ms, as the first one does alone. Throws std::bad_alloc if there is less than about
// three times the memory of that code.
void generate_matmuls() {
    constexpr size_t kBytes = size_t(32) << 20;
    void* const memory = ::mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    ::munmap(memory, kBytes);
    constexpr int kSize = 64;
    const std::vector<float> in(kSize * kSize);
    std::vector<float> out(kSize * kSize);
    for (const char trans_a : {'N', 'T'}) {
        for (const char trans_b : {'N', 'T'}) {
            for (const auto& [M, N, K] : {std::array{kSize, kSize, kSize}, {1, kSize, kSize}, {kSize, 1, kSize}}) {
                const size_t lda = trans_a == 'N' ? K : M, ldb = trans_b == 'N' ? N : K;
                for (const float beta : {0.0f, 1.0f}) {
                    sgemm({trans_a, trans_b, M, N, K, in.data(), lda, in.data(), ldb, beta, out.data(), size_t(N)});
                }
            }
        }
    }
}

// Per second, of a matmul that is large enough to be bound by computation, and takes a few milliseconds.
double measured_flops() {
    constexpr int kSize = 1024;
    std::vector<float> x(kSize * kSize, 1.0f), y(kSize * kSize, 1.0f), z(kSize * kSize);
    double best_s = 1e9;
    for (int repeat = 0; repeat < 8; repeat++) {
        const auto start = std::chrono::steady_clock::now();
        sgemm({'N', 'N', kSize, kSize, kSize, x.data(), kSize, y.data(), kSize, 0.0f, z.data(), kSize});
        const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
        best_s = std::min(best_s, elapsed.count());
    }
    return 2.0 * kSize * kSize * kSize / best_s;
}

class CpuEngine final : public Engine {
public:
    CpuEngine(const ModelConfig& config, const EngineOptions& options, Communicator* ranks);

    const ModelConfig& config() const override { return config_; }
    Optimizer optimizer() const override { return options_.optimizer; }
    std::string device_name() const override;
    double peak_flops(double reached) const override;
    size_t memory_in_use_bytes() const override { return resident_bytes(); }

    void init_weights(uint64_t seed) override;
    void read(const Arena& arena, size_t offset_elems, std::span<float> out) const override;
    void write(const Arena& arena, size_t offset_elems, std::span<const float> in) override;

    void zero_gradients() override { gradients_clear_ = true; }
    void forward_backward(const Batch& batch, float grad_scale, uint64_t seed) override;
    LossSum take_loss() override;
    double gradient_norm() override;
    void update(const OptimizerStep& step) override;
    LossSum evaluate(const Batch& batch, float* losses) override;

    void open_cache(int slots, int max_T) override;
    void clear_slot(int slot) override;
    int slot_length(int slot) const override;
    void prefill(int slot, std::span<const int> tokens, float* logits) override;
    void decode(std::span<const int> slots, std::span<const int> tokens, float* logits) override;

private:
    const MappedArray& arena(const Arena& which) const;
    void fill_gradients_if_clear();
    LossSum sum_losses(const Batch& batch) const;
    void run_cached(std::span<const int> tokens);

    ModelConfig config_;
    EngineOptions options_;
    Communicator* ranks_;  // null: there is one
    int threads_ = omp_get_max_threads();
    std::vector<TensorSpec> table_;
    MappedArray params_, gradients_, activations_;
    std::vector<MappedArray> states_;  // of the optimizer
    Params<float> param_, gradient_;
    Activations<float> acts_;
    std::vector<float> rope_table_;
    // All gradients count as 0, but the arena does not hold zeros: the next backward pass sets them instead of adding.
    bool gradients_clear_ = true;
    LossSum loss_;

    MappedArray cache_data_, cache_activations_, cache_scratch_;
    KvCache cache_;
    Activations<float> cache_acts_;
    int cache_rows_ = 0;
    std::vector<int> slot_length_;
    std::vector<CacheRow> rows_;

    mutable std::mutex peak_mutex_;
    mutable double peak_flops_ = 0;  // the largest seen; 0: none yet
};

CpuEngine::CpuEngine(const ModelConfig& config, const EngineOptions& options, Communicator* ranks)
    : config_(config),
      options_(options),
      ranks_(ranks && ranks->size() > 1 ? ranks : nullptr),
      table_(param_table(config)) {
    generate_matmuls();
    const size_t n = size_t(count_parameters(config));
    const ActivationShape shape{options.B, options.T, options.training, threads_};
    params_ = MappedArray(n, "parameters");
    param_ = bind_params(config_, params_.data());
    if (options.training) {
        gradients_ = MappedArray(n, "gradients");
        for (size_t i = 0; i < optimizer_info(options.optimizer).states.size(); i++) {
            states_.emplace_back(n, "optimizer state");
        }
        gradient_ = bind_params(config_, gradients_.data());
    }
    activations_ = MappedArray(activation_elems(config_, shape), "activations");
    acts_ = bind_activations(config_, shape, activations_.data());
    rope_table_ = rope_table(config_, options.T);
}

std::string CpuEngine::device_name() const {
    std::ifstream file("/proc/cpuinfo");
    std::string name = "CPU";
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with("model name")) {
            name = line.substr(line.find(':') + 2);
            break;
        }
    }
    return concat(name, ", ", threads_, " threads");
}

double CpuEngine::peak_flops(double reached) const {
    const std::scoped_lock lock(peak_mutex_);
    if (peak_flops_ == 0 || reached > peak_flops_) peak_flops_ = std::max({peak_flops_, reached, measured_flops()});
    return peak_flops_;
}

void CpuEngine::init_weights(uint64_t seed) {
    for (size_t index = 0; index < table_.size(); index++) {
        init_tensor(config_, table_[index], index, seed, params_.data() + table_[index].offset);
    }
    for (MappedArray& state : states_) state.discard();
}

const MappedArray& CpuEngine::arena(const Arena& which) const {
    if (which == Arena::params) return params_;
    require_training(options_, which.name);
    if (which == Arena::gradients) return gradients_;
    return states_[state_index(options_.optimizer, which.name)];
}

void CpuEngine::read(const Arena& which, size_t offset, std::span<float> out) const {
    const MappedArray& from = arena(which);
    check_span(offset, out.size(), from.size());
    if (which == Arena::gradients && gradients_clear_) {
        std::fill(out.begin(), out.end(), 0.0f);
    } else {
        std::copy_n(from.data() + offset, out.size(), out.begin());
    }
}

void CpuEngine::write(const Arena& which, size_t offset, std::span<const float> in) {
    const MappedArray& to = arena(which);
    check_span(offset, in.size(), to.size());
    if (which == Arena::gradients) fill_gradients_if_clear();
    std::copy_n(in.begin(), in.size(), to.data() + offset);
}

void CpuEngine::fill_gradients_if_clear() {
    if (!gradients_clear_) return;
    std::fill(gradients_.data(), gradients_.data() + gradients_.size(), 0.0f);
    gradients_clear_ = false;
}

LossSum CpuEngine::sum_losses(const Batch& batch) const {
    LossSum total;
    for (int n = 0; n < options_.B * options_.T; n++) {
        if (batch.targets[n] < 0) continue;
        total.sum += acts_.losses[n];
        total.tokens++;
    }
    return total;
}

void CpuEngine::forward_backward(const Batch& batch, float grad_scale, uint64_t seed) {
    require_training(options_, "forward_backward");
    check_batch(batch, options_.B * options_.T, config_.V);
    const PoolScope scope(threads_);
    const DecoderContext ctx{config_, param_, rope_table_.data(), options_.B, options_.T,
                             true,    seed,   batch.first_sample};
    const int N = options_.B * options_.T;
    const bool accumulate = !gradients_clear_;
    if (!accumulate) {  // decoder_backward always adds to these two
        const size_t C = config_.C;
        if (gradient_.wpe) std::fill_n(gradient_.wpe, config_.max_T * C, 0.0f);
        if (!config_.tied_embeddings) std::fill_n(gradient_.wte, config_.V * C, 0.0f);
    }
    decoder_forward(ctx, acts_, batch.tokens);
    for (int first = 0; first < N; first += kLmHeadRows) {
        const int rows = std::min(kLmHeadRows, N - first);
        lm_head_forward(ctx, acts_, batch.targets, grad_scale, first, rows);
        lm_head_backward(ctx, acts_, gradient_, first, rows, accumulate || first > 0);
    }
    decoder_backward(ctx, acts_, gradient_, batch.tokens, accumulate);
    gradients_clear_ = false;
    const LossSum sum = sum_losses(batch);
    loss_.sum += sum.sum;
    loss_.tokens += sum.tokens;
    if (batch.last && ranks_) ranks_->all_reduce(gradients_.data(), gradients_.size());
}

LossSum CpuEngine::take_loss() {
    return std::exchange(loss_, {});
}

double CpuEngine::gradient_norm() {
    require_training(options_, "gradient_norm");
    return gradients_clear_ ? 0.0 : std::sqrt(sum_of_squares(gradients_.data(), gradients_.size()));
}

void CpuEngine::update(const OptimizerStep& step) {
    require_training(options_, "update");
    fill_gradients_if_clear();
    const PoolScope scope(threads_);
    update_params(options_.optimizer, table_, params_, gradients_, states_, step);
}

LossSum CpuEngine::evaluate(const Batch& batch, float* losses) {
    check_batch(batch, options_.B * options_.T, config_.V);
    const PoolScope scope(threads_);
    const DecoderContext ctx{config_, param_, rope_table_.data(), options_.B, options_.T};
    const int N = options_.B * options_.T;
    decoder_forward(ctx, acts_, batch.tokens);
    for (int first = 0; first < N; first += kLmHeadRows) {
        lm_head_forward(ctx, acts_, batch.targets, 0.0f, first, std::min(kLmHeadRows, N - first));
    }
    if (losses) std::copy_n(acts_.losses, N, losses);
    return sum_losses(batch);
}

void check_memory(size_t needed, const std::string& what, const std::string& advice) {
    const size_t available = available_memory_bytes();
    KILN_CHECK(available == 0 || needed <= available, what, " needs ", bytes_text(double(needed)), " of memory, but ",
               bytes_text(double(available)), " are available; ", advice);
}

void CpuEngine::open_cache(int slots, int max_T) {
    cache_ = {};
    slot_length_.clear();
    for (MappedArray* array : {&cache_data_, &cache_activations_, &cache_scratch_}) *array = MappedArray();
    if (slots == 0) return;
    check_cache(config_, slots, max_T);
    cache_rows_ = std::max(slots, std::min(kPrefillRows, max_T));
    const size_t elems = kv_cache_elems(config_, slots, max_T);
    check_memory(elems * sizeof(float), concat("a KV cache of ", slots, " sequences of ", max_T, " tokens"),
                 "lower the number of sequences or their length");
    cache_data_ = MappedArray(elems, "the KV cache");
    const ActivationShape shape{1, cache_rows_, false, threads_};
    cache_activations_ = MappedArray(activation_elems(config_, shape), "activations of generation");
    cache_acts_ = bind_activations(config_, shape, cache_activations_.data());
    cache_scratch_ = MappedArray(threads_ * attention_scratch_elems(max_T), "attention over the KV cache");
    cache_ = {cache_data_.data(), slots, max_T};
    slot_length_.assign(slots, 0);
    rows_.reserve(cache_rows_);
    if (int(rope_table_.size()) < max_T * config_.HS) rope_table_ = rope_table(config_, max_T);
}

void CpuEngine::clear_slot(int slot) {
    check_slot(slot_length_, slot);
    slot_length_[slot] = 0;
}

int CpuEngine::slot_length(int slot) const {
    check_slot(slot_length_, slot);
    return slot_length_[slot];
}

// Appends `tokens` as rows_ says. cache_acts_.lnf then has the output of the final norm.
void CpuEngine::run_cached(std::span<const int> tokens) {
    const PoolScope scope(threads_);
    const DecoderContext ctx{config_, param_, rope_table_.data(), 1, int(tokens.size())};
    decoder_cached(ctx, cache_acts_, cache_, tokens.data(), rows_.data(), cache_scratch_.data());
    for (const CacheRow& row : rows_) slot_length_[row.slot] = row.position + 1;
}

void CpuEngine::prefill(int slot, std::span<const int> tokens, float* logits) {
    check_prefill(slot_length_, cache_.max_T, slot, tokens, config_.V);
    size_t rows = 0;
    for (size_t first = 0; first < tokens.size(); first += rows) {
        rows = std::min(tokens.size() - first, size_t(cache_rows_));
        rows_.clear();
        for (size_t i = 0; i < rows; i++) rows_.push_back({slot, slot_length_[slot] + int(i)});
        run_cached(tokens.subspan(first, rows));
    }
    linear_forward(logits, cache_acts_.lnf + (rows - 1) * config_.C, param_.lm_head, nullptr, 1, config_.C, config_.V);
}

void CpuEngine::decode(std::span<const int> slots, std::span<const int> tokens, float* logits) {
    check_decode(slot_length_, cache_.max_T, slots, tokens, config_.V);
    rows_.clear();
    for (const int slot : slots) rows_.push_back({slot, slot_length_[slot]});
    run_cached(tokens);
    linear_forward(logits, cache_acts_.lnf, param_.lm_head, nullptr, int(slots.size()), config_.C, config_.V);
}

}  // namespace

std::vector<MemoryItem> plan_cpu_memory(const ModelConfig& config, const EngineOptions& options) {
    validate(config);
    const size_t weights = size_t(count_parameters(config)) * sizeof(float);
    const ActivationShape shape{options.B, options.T, options.training, omp_get_max_threads()};
    size_t logits = 0, activations = 0;
    for (const ActivationSpec& spec : activation_table(config, shape)) {
        (spec.name == "logits" ? logits : activations) += spec.elems * sizeof(float);
    }
    if (config.uses_rope()) activations += size_t(options.T) * config.HS * sizeof(float);
    std::vector<MemoryItem> plan = {{"parameters", weights}};
    if (options.training) {
        plan.push_back({"gradients", weights});
        plan.push_back({"optimizer state", optimizer_info(options.optimizer).states.size() * weights});
    }
    plan.push_back({"activations", activations});
    plan.push_back({"logits", logits});
    plan.push_back({"process and libraries", kProcessBytes});
    return plan;
}

std::unique_ptr<Engine> make_cpu_engine(const ModelConfig& config, const EngineOptions& options, Communicator* ranks) {
    validate(config);
    if (options.zero_stage > 0) {
        throw UsageError("--zero-stage (-z): on the CPU every rank keeps the whole state; leave it out");
    }
    if (options.precision != Precision::float32) {
        throw UsageError("the CPU engine computes in float32 only; leave --dtype out, or train on a GPU");
    }
    check_micro_batch(config, options);
    size_t needed = 0;
    std::string parts;
    for (const MemoryItem& item : plan_cpu_memory(config, options)) {
        needed += item.bytes;
        parts += concat(parts.empty() ? "" : ", ", item.kind, " ", bytes_text(double(item.bytes)));
    }
    check_memory(needed,
                 concat("a model of ", count_parameters(config) / 1000000, " M parameters at batch ", options.B,
                        ", sequence ", options.T, options.training ? " in training" : "", " (", parts, ")"),
                 "lower the batch size or the sequence length, or take a smaller model");
    return std::make_unique<CpuEngine>(config, options, ranks);
}

}  // namespace kiln
