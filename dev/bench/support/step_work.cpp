// The same order as in cuda/engine/decoder.cpp, but each operation is counted instead of launched.
#include "dev/bench/support/step_work.h"

#include <algorithm>

#include "cpu_reference/interface/error.h"
#include "cuda/engine/cuda_engine.h"
#include "cuda/engine/decoder.h"

namespace kiln::bench {
namespace {

bool has_learned_positions(Position position) {
    switch (position) {
        case Position::learned: return true;
        case Position::rope: return false;
    }
    __builtin_unreachable();
}
bool is_gelu(Mlp mlp) {
    switch (mlp) {
        case Mlp::gelu: return true;
        case Mlp::swiglu: return false;
    }
    __builtin_unreachable();
}

class Counter {
public:
    Counter(const ModelConfig& config, const EngineOptions& options)
        : c(config),
          o(options),
          learned(has_learned_positions(c.position)),
          gelu(is_gelu(c.mlp)),
          N(double(o.B) * o.T),
          e(o.precision == Precision::float32 ? 4 : 2),
          g(o.narrow_gradients ? e : 4) {}

    std::vector<KernelWork> count() {
        add(Group::copies, 0, 4);  // waits for the batch; the loss
        add(Group::copies, 0, 12 * N);
        add(Group::copies, 0,
            (learned ? double(c.max_T) : 0) * c.C * g + (c.tied_embeddings ? 0 : double(padded_vocab(c)) * c.C * g));
        add(Group::embedding, 0, (learned ? 3 : 2) * N * c.C * e);
        part_ = Part::first_norm;
        norm_forward(1);
        part_ = Part::block, times_ = c.L;
        attention_half();
        mlp_forward();
        matmul(c.F, c.C);
        part_ = Part::block_end;
        residual_norm();
        part_ = Part::lm_head, times_ = 1;
        lm_head();
        part_ = Part::last_norm_backward;
        norm_backward(3);
        part_ = Part::block_backward, times_ = c.L;
        recompute();
        block_backward();
        part_ = Part::embedding_backward, times_ = 1;
        const double sums = std::min<double>(N, c.V);
        add(Group::embedding, 0, 2 * N * c.C * e + 2 * (sums + (learned ? o.T : 0)) * c.C * g);
        optimizer();
        return work_;
    }

private:
    void add(Group group, double flops, double bytes, int64_t ranges = 1) {
        work_.push_back({group, part_, flops, bytes, times_, ranges});
    }
    // out (N, O) = in (N, I) w. more: further elements that it reads or writes.
    void matmul(double I, double O, double more = 0) {
        add(Group::matmuls, 2 * N * I * O, (N * I + N * O + I * O + more) * e);
    }
    void weight_matmul(double I, double O) { add(Group::matmuls, 2 * N * I * O, (N * I + N * O) * e + I * O * g); }
    void linear_backward(double I, double O, bool bias) {
        weight_matmul(I, O);
        if (bias) add(Group::bias, 0, N * O * e);
        matmul(O, I);
    }
    double statistics() const {
        switch (c.norm) {
            case Norm::layernorm: return 8 * N;
            case Norm::rmsnorm: return 4 * N;
        }
        __builtin_unreachable();
    }
    void norm_forward(int64_t norms) {
        for (int64_t i = 0; i < norms; i++) add(Group::norm, 0, 2 * N * c.C * e + statistics());
    }
    void residual_norm() { add(Group::norm, 0, 4 * N * c.C * e + statistics()); }
    void norm_backward(double passes) { add(Group::norm, 12 * N * c.C, passes * N * c.C * e + statistics()); }
    double heads() const { return N * (c.NH + c.NKV); }
    void rope() {
        if (!learned) add(Group::rope, 0, 2 * heads() * c.HS * e + 4.0 * o.T * c.HS);
    }
    void qk_norm() {
        if (c.qk_norm) add(Group::norm, 0, 3 * heads() * c.HS * e + 4 * heads());
    }
    void attention(double factor, double tensors) {
        const double pairs = double(o.B) * c.NH * o.T * o.T * c.HS;
        add(Group::attention, factor * pairs, tensors * N * (c.QKV() + c.NH * c.HS) * e + tensors * 4 * N * c.NH);
    }
    void attention_half() {
        matmul(c.C, c.QKV());
        qk_norm();
        rope();
        attention(2, 1);
        matmul(c.NH * c.HS, c.C);
        residual_norm();
    }
    double fc_parts() const { return double(c.FC()) / c.F; }
    void activation() { add(Group::activation, 0, (fc_parts() + 1) * N * c.F * e); }
    void mlp_forward() {
        const bool fused = gelu && o.fused_gelu > 0;
        matmul(c.C, c.FC(), fused ? N * c.F : 0);
        if (!fused) activation();
    }
    void lm_head() {
        const int Vp = padded_vocab(c);
        double logits = 0;
        for (const MemoryItem& item : plan_cuda_memory(c, o)) logits += item.kind == "logits" ? double(item.bytes) : 0;
        const int64_t rows = int64_t(logits / (double(Vp) * e)), chunks = (int64_t(N) + rows - 1) / rows;
        matmul(c.C, Vp);
        work_.back().ranges = chunks;
        add(Group::loss, 0, N * (double(c.V) + Vp) * e + 8 * N, chunks);
        weight_matmul(c.C, Vp);
        work_.back().ranges = chunks;                                 // together with the next matmul
        work_.back().bytes += double(chunks - 1) * 2 * c.C * Vp * g;  // later chunks read and write the sums
        matmul(Vp, c.C);
        work_.back().ranges = 0;
        add(Group::loss, 0, 4 * N);
    }
    void recompute() {
        if (o.recompute >= 2) norm_forward(1);
        if (o.recompute == 3) {
            attention_half();
            return mlp_forward();
        }
        if (o.recompute == 2) norm_forward(1);
        if (o.recompute >= 1) gelu&& o.fused_gelu > 0 ? mlp_forward() : activation();
    }
    void block_backward() {
        weight_matmul(c.F, c.C);
        if (c.linear_bias) add(Group::bias, 0, N * c.C * e);
        const bool fused = gelu && o.fused_gelu > 1;
        matmul(c.C, c.F, fused ? N * c.F : 0);
        if (!fused) add(Group::activation, 0, (2 * fc_parts() + 1) * N * c.F * e);
        linear_backward(c.C, c.FC(), c.linear_bias && (!gelu || fused));  // gelu_backward sums it
        norm_backward(4);
        linear_backward(c.NH * c.HS, c.C, c.linear_bias);
        attention(5, 2);
        rope();
        qk_norm();
        linear_backward(c.C, c.QKV(), c.qkv_bias && (!learned || c.qk_norm));  // as does attention's backward pass
        norm_backward(4);
    }
    void optimizer() {
        const double n = double(count_parameters(padded(c))), m = o.narrow_moments ? 2 : 4;
        const bool master = e < 4 && o.master_weights;
        part_ = Part::gradient_norm;
        add(Group::optimizer, 0, n * g);
        part_ = Part::update;
        switch (o.optimizer) {
            case Optimizer::adamw: add(Group::optimizer, 0, n * (g + 4 * m + (master ? 8 + e : 2 * e))); break;
        }
    }

    const ModelConfig& c;
    const EngineOptions& o;
    const bool learned, gelu;
    const double N, e, g;
    Part part_ = Part::embedding;
    int64_t times_ = 1;
    std::vector<KernelWork> work_;
};

double floor_ms_of(const KernelWork& kernel, const Ceilings& ceilings) {
    return std::max(kernel.flops / ceilings.tflop_per_s * 1e-9, kernel.bytes / ceilings.gb_per_s * 1e-6);
}

}  // namespace

std::vector<KernelWork> step_work(const ModelConfig& config, const EngineOptions& options) {
    KILN_CHECK(config.dropout_embedding + config.dropout_residual + config.dropout_attention == 0,
               "the work of a step with dropout cannot be counted; choose a model without dropout");
    return Counter(config, options).count();
}

GroupWork sum_of(const std::vector<KernelWork>& work, Group group, const Ceilings& ceilings) {
    GroupWork sum;
    for (const KernelWork& kernel : work) {
        if (kernel.group != group) continue;
        const double times = double(kernel.times);
        sum.flops += times * kernel.flops;
        sum.bytes += times * kernel.bytes;
        sum.floor_ms += times * floor_ms_of(kernel, ceilings);
        sum.ranges += kernel.times * kernel.ranges;
    }
    return sum;
}

double floor_ms(const std::vector<KernelWork>& work, Part part, const Ceilings& ceilings) {
    double ms = 0;
    for (const KernelWork& kernel : work) ms += kernel.part == part ? floor_ms_of(kernel, ceilings) : 0;
    return ms;
}

}  // namespace kiln::bench
