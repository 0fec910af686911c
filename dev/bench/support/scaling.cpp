#include "dev/bench/support/scaling.h"

#include <string_view>

#include "cpu_reference/interface/error.h"
#include "cuda/engine/decoder.h"
#include "cuda/parallel/bucket_hooks.h"

namespace kiln::bench {
namespace {

constexpr int kSteps = 4;  // from the third on, a step is like the one before

// The same order as in cuda/parallel/exchange.cpp.
class ModelledExchange final : public BucketHooks {
public:
    ModelledExchange(const RankedStep& step, const Network& network, TwoStreams& streams)
        : step_(step),
          o_(step.traffic),
          network_(network),
          streams_(streams),
          gathered_(step.layout.buckets.size(), -1) {}

    double bytes_sent() const { return bytes_sent_; }

    void begin_forward() { direction_ = 1; }
    void begin_backward(bool accumulate, bool last) {
        direction_ = -1;
        accumulate_ = accumulate;
        last_ = last;
    }
    void before_params(int bucket) override {
        if (o_.stage == 0) return;
        if (o_.stage == 3 && is_window(bucket) && in_window_[size_t(bucket % 2)] != bucket) {
            follow_passes();
            gather(bucket);
        }
        streams_.wait(Lane::passes, gathered_[size_t(bucket)]);
    }
    void after_params(int bucket) override {
        const int next = bucket + 2 * direction_;
        if (o_.stage < 3 || !is_window(bucket) || !is_window(next)) return;
        follow_passes();
        gather(next);
    }
    void before_gradients(int bucket) override {
        if (o_.stage >= 2) streams_.wait(Lane::passes, reduced_[slot(bucket)]);
    }
    void after_gradients(int bucket) override {
        if (o_.stage < 2 && !last_) return;
        follow_passes();
        const double n = elems(bucket), part = n / o_.ranks;
        const double stored = double(step_.stored_gradient_bytes), sent = double(o_.gradient_bytes);
        const bool narrow = sent < stored;
        if (narrow) on_device("cast", bucket, n * (stored + sent));
        if (o_.stage == 0) {
            collective("all_reduce", bucket, 2, n * sent);
        } else {
            collective("reduce_scatter", bucket, 1, n * sent);
        }
        if (narrow) on_device("cast", bucket, (o_.stage == 0 ? n : part) * (stored + sent));
        if (o_.stage < 2) return;
        if (accumulate_) on_device("add", bucket, 3 * part * stored);
        reduced_[slot(bucket)] = streams_.record(Lane::exchange);
    }
    void join() { streams_.wait(Lane::passes, streams_.record(Lane::exchange)); }
    // The sum of one number.
    void sum() { streams_.queue(Lane::passes, "sum", -1, latency_ms(2)); }
    void updated(int bucket) {
        if (o_.stage == 0) return;
        if (o_.stage == 3 && is_window(bucket) && in_window_[size_t(bucket % 2)] != bucket) return;
        follow_passes();
        gather(bucket);
    }

private:
    double elems(int bucket) const { return double(step_.layout.buckets[size_t(bucket)].elems); }
    bool is_window(int bucket) const { return bucket > 0 && bucket < int(step_.layout.buckets.size()) - 1; }
    size_t slot(int bucket) const { return is_window(bucket) ? size_t(1 + bucket % 2) : bucket == 0 ? 0 : 3; }
    void follow_passes() { streams_.wait(Lane::exchange, streams_.record(Lane::passes)); }
    void gather(int bucket) {
        collective("all_gather", bucket, 1, elems(bucket) * double(o_.param_bytes));
        gathered_[size_t(bucket)] = streams_.record(Lane::exchange);
        if (o_.stage == 3 && is_window(bucket)) in_window_[size_t(bucket % 2)] = bucket;
    }
    // A ring goes `times` times around, and each time through all ranks but one.
    double latency_ms(int times) const {
        const Network& n = network_;
        return 1e-3 * (n.call_us + times * ((n.ranks() - n.nodes) * n.hop_us + (n.nodes - 1) * n.net_us));
    }
    void collective(const char* name, int bucket, int times, double bytes) {
        const double sent = times * bytes * (o_.ranks - 1) / o_.ranks;
        bytes_sent_ += sent;
        streams_.queue(Lane::exchange, name, bucket, latency_ms(times) + sent / network_.gb_per_s * 1e-6);
    }
    void on_device(const char* name, int bucket, double bytes) {
        streams_.queue(Lane::exchange, name, bucket, bytes / step_.copy_gb_per_s * 1e-6);
    }

    const RankedStep& step_;
    const TrafficOptions& o_;
    const Network& network_;
    TwoStreams& streams_;
    double bytes_sent_ = 0;
    std::vector<int> gathered_;
    std::array<int, 4> reduced_{-1, -1, -1, -1};
    std::array<int, 2> in_window_{0, 0};
    int direction_ = 1;
    bool accumulate_ = false, last_ = false;
};

// The same order as in cuda/engine: queue_micro_step, decoder_forward, decoder_backward, DeviceArenas::update.
class ModelledPasses {
public:
    ModelledPasses(const RankedStep& step, ModelledExchange& exchange, TwoStreams& streams)
        : step_(step), exchange_(exchange), streams_(streams), last_(int(step.layout.buckets.size()) - 1) {}

    void micro_step(bool accumulate, bool last) {
        exchange_.begin_forward();
        exchange_.before_gradients(0);
        exchange_.before_params(0);
        compute(Part::embedding, 0);
        exchange_.before_params(1);
        compute(Part::first_norm, 1);
        for (int block = 1; block < last_; block++) {
            compute(Part::block, block);
            exchange_.before_params(block + 1);
            compute(Part::block_end, block);
            exchange_.after_params(block);
        }
        exchange_.begin_backward(accumulate, last);
        exchange_.before_params(step_.lm_head_bucket);
        exchange_.before_gradients(step_.lm_head_bucket);
        compute(Part::lm_head, step_.lm_head_bucket);
        exchange_.before_gradients(last_);
        compute(Part::last_norm_backward, last_);
        exchange_.after_gradients(last_);
        for (int block = last_ - 1; block > 0; block--) {
            exchange_.before_params(block);
            exchange_.before_gradients(block);
            compute(Part::block_backward, block);
            exchange_.after_params(block);
            exchange_.after_gradients(block);
        }
        exchange_.before_gradients(0);
        compute(Part::embedding_backward, 0);
        exchange_.after_gradients(0);
        exchange_.join();
    }

    void update() {
        const bool divided = step_.traffic.stage > 0;
        const double part = divided ? 1.0 / step_.traffic.ranks : 1;
        compute(Part::gradient_norm, -1, part);
        if (!divided) return compute(Part::update, -1);
        exchange_.sum();
        for (int bucket = 0; bucket <= last_; bucket++) {
            const double elems = double(step_.layout.buckets[size_t(bucket)].elems);
            compute(Part::update, bucket, part * elems / double(step_.layout.elems));
            exchange_.updated(bucket);
        }
    }

private:
    void compute(Part part, int bucket, double factor = 1) {
        constexpr const char* kNames[kParts] = {
            "embedding",      "first_norm",         "block",         "block_end", "lm_head", "last_norm_backward",
            "block_backward", "embedding_backward", "gradient_norm", "update"};
        streams_.queue(Lane::passes, kNames[size_t(part)], bucket, factor * step_.ms[size_t(part)]);
    }

    const RankedStep& step_;
    ModelledExchange& exchange_;
    TwoStreams& streams_;
    const int last_;
};

double one_gpu_ms(const RankedStep& step) {
    const auto of = [&](Part part) { return step.ms[size_t(part)]; };
    const double blocks = double(step.layout.buckets.size() - 2);
    const double micro_step = of(Part::embedding) + of(Part::first_norm) + of(Part::lm_head) +
                              of(Part::last_norm_backward) + of(Part::embedding_backward) +
                              blocks * (of(Part::block) + of(Part::block_end) + of(Part::block_backward));
    return step.traffic.micro_batches * micro_step + of(Part::gradient_norm) + of(Part::update);
}

}  // namespace

RankedStep ranked_step(const ModelConfig& config, const EngineOptions& options, int micro_batches,
                       const Ceilings& ceilings) {
    const size_t element = options.precision == Precision::float32 ? 4 : 2;
    const size_t gradient = options.narrow_gradients ? element : 4;
    RankedStep step{.layout = ArenaLayout(padded(config), options.zero_stage > 0 ? options.ranks : 1, 0),
                    .lm_head_bucket = config.tied_embeddings ? 0 : 1 + config.L,
                    .traffic = {.ranks = options.ranks,
                                .stage = options.zero_stage,
                                .micro_batches = micro_batches,
                                .gradient_bytes = options.narrow_reduce ? element : gradient,
                                .param_bytes = element},
                    .stored_gradient_bytes = gradient,
                    .copy_gb_per_s = ceilings.gb_per_s,
                    .ms = {}};
    const std::vector<KernelWork> work = step_work(config, options);
    for (int part = 0; part < kParts; part++) step.ms[size_t(part)] = floor_ms(work, Part(part), ceilings);
    return step;
}

Scaling predict_scaling(const RankedStep& step, const Network& network) {
    KILN_CHECK(step.traffic.ranks == network.ranks() && network.ranks() > 1, "scaling: ", step.traffic.ranks,
               " ranks on ", network.ranks(), " GPUs");
    TwoStreams streams;
    ModelledExchange exchange(step, network, streams);
    ModelledPasses passes(step, exchange, streams);
    size_t first = 0;  // of the last step's work
    int ended = -1;    // the end of the step before it
    double sent = 0;
    for (int i = 0; i < kSteps; i++) {
        first = streams.size();
        ended = streams.record(Lane::passes);
        sent = exchange.bytes_sent();
        for (int micro = 0; micro < step.traffic.micro_batches; micro++) {
            passes.micro_step(micro > 0, micro + 1 == step.traffic.micro_batches);
        }
        passes.update();
    }
    const int end = streams.record(Lane::passes);
    const std::vector<Work>& all = streams.run(network.share);
    const double begin_ms = all[size_t(ended)].end_ms;
    Scaling scaling{.bytes_sent = exchange.bytes_sent() - sent,
                    .one_gpu_ms = one_gpu_ms(step),
                    .step_ms = all[size_t(end)].end_ms - begin_ms,
                    .work = {}};
    double free_ms = begin_ms;  // the passes have nothing to do from then on
    for (size_t i = first; i < all.size(); i++) {
        Work work = all[i];
        if (work.ms == 0) continue;
        if (work.lane == Lane::passes && work.name != std::string_view("sum")) {
            scaling.compute_ms += work.ms;
            scaling.slowed_ms += work.slowed_ms;
            scaling.exposed_ms += work.begin_ms - free_ms;
            free_ms = work.end_ms;
        }
        work.begin_ms -= begin_ms;
        work.end_ms -= begin_ms;
        scaling.work.push_back(work);
    }
    scaling.exposed_ms += all[size_t(end)].end_ms - free_ms;
    return scaling;
}

}  // namespace kiln::bench
