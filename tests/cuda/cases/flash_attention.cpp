// Cases of cuda/kernels/flash_attention.cu and flash_attention_backward.cu.
#include <algorithm>
#include <cmath>

#include "cpu_reference/interface/rng.h"
#include "cuda/kernels/kernels.h"
#include "tests/cuda/cases/cases.h"
#include "tests/cuda/cases/heads.h"
#include "tests/cuda/cases/rows.h"

namespace kiln::test {
namespace {

// Options of a shape besides its dimensions: the mean length of "documents", a "window", "dropout" in per cent, a
// factor "large" for the inputs, and a limit of "shared" memory in KB.
int option(const Shape& shape, const std::string& name, int otherwise = 0) {
    for (const auto& [key, value] : shape) {
        if (key == name) return value;
    }
    return otherwise;
}

struct Attention : Sequences {
    explicit Attention(const Shape& shape)
        : Sequences(shape),
          window(option(shape, "window")),
          shared_limit(option(shape, "shared") << 10),
          input_scale(kInputScale * option(shape, "large", 1)),
          d(attention_dropout(option(shape, "dropout") / 100.0f)) {
        if (const int length = option(shape, "documents"); length > 0) {
            for (int b = 0; b < B; ++b) {
                for (int t = 0, first = 0, next = 1 + b; t < T; ++t) {
                    if (t == next) {
                        first = t;
                        next = t + 1 + (7 * t + 3 * b) % (2 * length);
                    }
                    first_keys.push_back(first);
                }
            }
            device_first_keys = on_device(first_keys);
        }
    }
    AttentionMask mask() const { return {device_first_keys.get(), window}; }
    int first_key(int b, int q) const {
        const int first = first_keys.empty() ? 0 : first_keys[b * T + q];
        return window > 0 ? std::max(first, q - window + 1) : first;
    }
    const int window, shared_limit;
    const float input_scale;
    const Dropout d;
    std::vector<int> first_keys;
    DeviceBuffer<int> device_first_keys;
};

// Plain attention with float32 arithmetic, which rounds to E what a plain program keeps in memory: scores,
// probabilities and their gradients. With E = float it is the reference.
template <class E>
struct Plain {
    explicit Plain(const Attention& a) : a_(a), out(a.out_elems()), lse(a.lse_elems()) {}

    void forward(const std::vector<float>& qkv) {
        each_row(qkv, [&](int b, int h, int q, const std::vector<float>& p, const std::vector<float>& mask, float sum) {
            lse[(size_t(b) * a_.NH + h) * a_.T + q] = sum;
            float* const o = &out[((size_t(b) * a_.T + q) * a_.NH + h) * a_.HS];
            for (int k = a_.first_key(b, q); k <= q; ++k) {
                const float factor = round(p[k] * mask[k]);
                const float* const v = head(qkv, b, k, a_.NH + a_.NKV + h / (a_.NH / a_.NKV));
                for (int c = 0; c < a_.HS; ++c) o[c] += factor * v[c];
            }
            for (int c = 0; c < a_.HS; ++c) o[c] = round(o[c]);
        });
    }
    std::vector<float> backward(const std::vector<float>& qkv, const std::vector<float>& dout,
                                const std::vector<float>& outs) {
        std::vector<float> dqkv(qkv.size());
        std::vector<float> ds(a_.T);
        const float scale = 1 / std::sqrt(float(a_.HS));
        each_row(qkv, [&](int b, int h, int q, const std::vector<float>& p, const std::vector<float>& mask, float) {
            const size_t row = ((size_t(b) * a_.T + q) * a_.NH + h) * a_.HS;
            const int kv = h / (a_.NH / a_.NKV), first = a_.first_key(b, q);
            float delta = 0;
            for (int c = 0; c < a_.HS; ++c) delta += dout[row + c] * outs[row + c];
            for (int k = first; k <= q; ++k) {
                const float* const v = head(qkv, b, k, a_.NH + a_.NKV + kv);
                float dp = 0;
                for (int c = 0; c < a_.HS; ++c) dp += dout[row + c] * v[c];
                ds[k] = round(p[k] * (round(dp) * mask[k] - delta));
            }
            float* const dq = head(dqkv, b, q, h);
            const float* const query = head(qkv, b, q, h);
            for (int k = first; k <= q; ++k) {
                float *const dk = head(dqkv, b, k, a_.NH + kv), *const dv = head(dqkv, b, k, a_.NH + a_.NKV + kv);
                const float *const key = head(qkv, b, k, a_.NH + kv), kept = round(p[k] * mask[k]);
                for (int c = 0; c < a_.HS; ++c) {
                    dq[c] += scale * ds[k] * key[c];
                    dk[c] += scale * ds[k] * query[c];
                    dv[c] += kept * dout[row + c];
                }
            }
        });
        return rounded<E>(dqkv);
    }

private:
    static float round(float x) { return to_float(from_float<E>(x)); }
    template <class V>
    auto head(V& qkv, int b, int t, int h) const {
        return &qkv[(size_t(b) * a_.T + t) * a_.QKV + size_t(h) * a_.HS];
    }
    // Calls f(b, h, q, probabilities, dropout's factors, log-sum-exp) for every row.
    template <class F>
    void each_row(const std::vector<float>& qkv, const F& f) {
        std::vector<float> p(a_.T), mask(a_.T, 1.0f);
        for (int b = 0; b < a_.B; ++b) {
            for (int h = 0; h < a_.NH; ++h) {
                for (int q = 0; q < a_.T; ++q) {
                    const float* const query = head(qkv, b, q, h);
                    float highest = -INFINITY, sum = 0;
                    for (int k = a_.first_key(b, q); k <= q; ++k) {
                        const float* const key = head(qkv, b, k, a_.NH + h / (a_.NH / a_.NKV));
                        float score = 0;
                        for (int c = 0; c < a_.HS; ++c) score += query[c] * key[c];
                        p[k] = round(score / std::sqrt(float(a_.HS)));
                        highest = std::max(highest, p[k]);
                    }
                    for (int k = a_.first_key(b, q); k <= q; ++k) sum += std::exp(p[k] - highest);
                    for (int k = a_.first_key(b, q); k <= q; ++k) {
                        p[k] = round(std::exp(p[k] - highest) / sum);
                        if (a_.d.p > 0) {
                            const Philox4 words =
                                dropout_words(a_.d.seed, a_.d.stream, a_.d.first_sample + b, a_.d.layer, h, q, k / 4);
                            mask[k] = uniform01(words.v[k % 4]) < a_.d.p ? 0.0f : 1.0f / (1.0f - a_.d.p);
                        }
                    }
                    f(b, h, q, p, mask, highest + std::log(sum));
                }
            }
        }
    }
    const Attention& a_;

public:
    std::vector<float> out, lse;
};

template <class E>
class FlashForward : public KernelCase, Attention {
public:
    explicit FlashForward(const Shape& shape)
        : Attention(shape), qkv_(random_values(qkv_elems(), 1, input_scale)), out_(out_elems()), lse_(lse_elems()) {
        bytes = double(qkv_.size() + out_.size()) * sizeof(E) + 4.0 * lse_.size();
        flops = 2.0 * B * NH * T * T * HS;
    }
    void launch(cudaStream_t stream) override {
        flash_attention_forward(out_.get(), lse_.get(), qkv_.get(), mask(), d, B, T, NH, NKV, HS, stream, shared_limit);
    }
    void check() override {
        Plain<float> exact(*this);
        Plain<E> naive(*this);
        exact.forward(qkv_.values());
        naive.forward(qkv_.values());
        expect_close("lse", lse_, exact.lse, exact.lse, HS);
        expect_close("out", out_, exact.out, naive.out, HS + T);
    }

private:
    Tensor<E> qkv_, out_;
    Tensor<float> lse_;
};

template <class E>
class FlashBackward : public KernelCase, Attention {
public:
    explicit FlashBackward(const Shape& shape)
        : Attention(shape),
          qkv_(random_values(qkv_elems(), 1, input_scale)),
          dout_(random_values(out_elems(), 2)),
          out_(outputs()),
          lse_(sums_),
          dqkv_(qkv_elems()),
          db_(random_values(QKV, 4)),
          scratch_(flash_attention_scratch_floats(B, T, NH, NKV, HS, true)) {
        bytes = double(2 * qkv_.size() + 2 * out_.size()) * sizeof(E) + 8.0 * lse_.size();
        flops = 5.0 * B * NH * T * T * HS;
    }
    void launch(cudaStream_t stream) override {
        const BiasGradient<float> bias{db_.get(), accumulate()};
        flash_attention_backward(dqkv_.get(), bias, scratch_.get(), dout_.get(), out_.get(), qkv_.get(), lse_.get(),
                                 mask(), d, B, T, NH, NKV, HS, stream, shared_limit);
    }
    void check() override {
        const std::vector<float> exact = Plain<float>(*this).backward(qkv_.values(), dout_.values(), out_.values()),
                                 naive = Plain<E>(*this).backward(qkv_.values(), dout_.values(), out_.values()),
                                 before = accumulate() ? db_.values() : std::vector<float>(QKV);
        const double terms = HS + T * NH / NKV;
        expect_close("dqkv", dqkv_, exact, naive, terms);
        expect_close("db", db_, bias_gradient(before, exact), bias_gradient(before, naive), terms * B * T);
        scratch_.expect_sentinel("scratch");
    }

private:
    bool accumulate() const { return T % 2 == 0; }
    Values outputs() {
        // The benchmark's shapes are too long for the reference, and need no correct output.
        if (T > 1024 || B > 8) {
            sums_.assign(lse_elems(), 10.0f);
            return random_values(out_elems(), 3);
        }
        Plain<float> exact(*this);
        exact.forward(qkv_.values());
        sums_ = exact.lse;
        return exact.out;
    }
    std::vector<float> sums_;
    Tensor<E> qkv_, dout_, out_;
    Tensor<float> lse_;
    Tensor<E> dqkv_;
    Tensor<float> db_, scratch_;
};

Shape shape(int B, int T, int NH, int NKV, int HS, const Shape& more = {}) {
    Shape all = sequences(B, T, NH, NKV, HS);
    all.insert(all.end(), more.begin(), more.end());
    return all;
}

}  // namespace

void add_flash_attention_families(std::vector<KernelFamily>& families) {
    std::vector<Shape> small;
    // Lengths just below, at and above those of tiles: all at head size 64, and each at one or two of the others.
    // Groups of 1, 2, 4 and 7 heads.
    const int others[] = {32, 80, 96, 128, 256};
    int next = 0;
    for (const int T : {1, 2, 17, 63, 64, 65, 127, 128, 129, 192, 257}) {
        small.push_back(shape(1, T, 1, 1, 64));
        small.push_back(shape(1, T, 1, 1, others[next++ % 5]));
        if (T < 192) small.push_back(shape(1, T, 1, 1, others[next++ % 5]));
    }
    for (const int group : {2, 4, 7})
        small.push_back(shape(2, 129, group * (group == 2 ? 2 : 1), group == 2 ? 2 : 1, 64));
    for (const int HS : {32, 80, 96, 128, 256}) {
        small.push_back(shape(1, 193, 2, 1, HS));
        small.push_back(shape(2, 70, 2, 2, HS, {{"dropout", 25}}));
    }
    for (const int HS : {64, 80, 96, 128}) small.push_back(shape(1, 300, 1, 1, HS, {{"shared", 99}}));
    for (const int HS : {128, 256}) small.push_back(shape(1, 200, 1, 1, HS, {{"shared", 163}}));
    small.push_back(shape(1, 140, 1, 1, 128, {{"shared", 99}, {"dropout", 25}}));
    small.push_back(shape(1, 150, 2, 1, 96, {{"shared", 99}, {"dropout", 25}}));
    small.push_back(shape(2, 300, 2, 1, 64, {{"documents", 40}}));
    small.push_back(shape(1, 300, 1, 1, 128, {{"documents", 150}, {"window", 60}}));
    small.push_back(shape(1, 400, 1, 1, 64, {{"window", 33}}));
    small.push_back(shape(1, 130, 1, 1, 256, {{"window", 1}}));
    small.push_back(shape(1, 200, 2, 2, 64, {{"dropout", 25}, {"documents", 30}}));
    small.push_back(shape(1, 150, 1, 1, 64, {{"large", 20}}));  // scores of thousands: one key has probability 1

    const std::vector<Shape> real = {shape(64, 1024, 12, 12, 64), shape(16, 2048, 16, 16, 128),
                                     shape(1, 8192, 32, 8, 128)};
    families.push_back({"flash_attention_forward", kNarrowElements, small, real, make_narrow<FlashForward>, 80});
    families.push_back({"flash_attention_backward", kNarrowElements, small, real, make_narrow<FlashBackward>, 80});
    // A sanitizer would take a minute for these.
    const std::vector<Shape> many_tiles = {shape(1, 1000, 1, 1, 64)};
    families.push_back(
        {"flash_attention_many_tiles_forward", kNarrowElements, many_tiles, {}, make_narrow<FlashForward>, 80});
    families.push_back(
        {"flash_attention_many_tiles_backward", kNarrowElements, many_tiles, {}, make_narrow<FlashBackward>, 80});
}

}  // namespace kiln::test
