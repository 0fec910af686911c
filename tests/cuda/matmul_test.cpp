// Linear layers over cuBLASLt against the float32 reference: every epilogue, odd sizes, accumulation, the cache of
// plans.
#include "cuda/engine/matmul.h"

#include <gtest/gtest.h>

#include <cstring>

#include "cpu_reference/ops/ops.h"
#include "cuda/device/element_types.h"
#include "tests/cuda/kernel_case.h"
#include "tests/cuda/needs.h"
#include "tests/cuda/schedules.h"

namespace kiln::test {
namespace {

const Linear kSmallest{.N = 1, .I = 8, .O = 8};
const std::vector<Linear> kLayers = {kSmallest, {.N = 5, .I = 72, .O = 40}, {.N = 33, .I = 40, .O = 104}};

// An idle GPU's clocks do not matter here, and the emulator spends time on a workspace.
const MatmulOptions kOptions{.workspace_bytes = size_t(1) << 20, .warm_up = {}, .tf32 = false};

// A sum of k terms is rounded k times, each time by at most half a unit of the largest value.
double roundings(int k) {
    return k + 8;
}

template <class T>
struct Case {
    explicit Case(const Linear& layer)
        : N(layer.N),
          I(layer.I),
          O(layer.O),
          x(random_values(size_t(N) * I, 1)),
          w(random_values(size_t(O) * I, 2)),
          bias(random_values(O, 3)),
          dout(random_values(size_t(N) * O, 4)) {}
    const int N, I, O;
    Tensor<T> x, w, bias, dout;
};

void for_each_layer(const std::function<void(Matmul&, const Linear&)>& check) {
    for_each_schedule([&] {
        Matmul matmul(kOptions);
        for (const Linear& layer : kLayers) check(matmul, layer);
    });
}

template <class T>
class Matmuls : public testing::Test {
protected:
    void SetUp() override { KILN_SKIP_BELOW((std::is_same_v<T, __nv_bfloat16> ? 80 : 0)); }
};
using Elements = testing::Types<float, __nv_bfloat16 KILN_IF_FLOAT16(, __half)>;
struct Names {
    template <class T>
    static std::string GetName(int i) {
        return name_of(kAllElements[size_t(i)]);
    }
};
TYPED_TEST_SUITE(Matmuls, Elements, Names);

template <class T, class Out>
void check_forward(Matmul& matmul, const Linear& layer) {
    const Case<T> c(layer);
    const Tensor<Out> bias(random_values(c.O, 3));
    const Stream stream;
    for (const bool with_bias : {false, true}) {
        const Tensor<Out> out(size_t(c.N) * c.O);
        matmul.forward(out.get(), c.x.get(), c.w.get(), with_bias ? bias.get() : nullptr, layer, stream);
        stream.synchronize();
        std::vector<float> expected(out.size());
        linear_forward(expected.data(), c.x.values().data(), c.w.values().data(),
                       with_bias ? bias.values().data() : nullptr, c.N, c.I, c.O);
        expect_close("out", out, expected, roundings(c.I));
    }
}

TYPED_TEST(Matmuls, forward_matches_reference) {
    for_each_layer(check_forward<TypeParam, TypeParam>);
    Matmul matmul(kOptions);
    check_forward<TypeParam, TypeParam>(matmul, {.N = 7, .I = 24, .O = 51});  // rows of outputs are not whole packs
}

TYPED_TEST(Matmuls, forward_to_float32_matches_reference) {
    for_each_layer(check_forward<TypeParam, float>);
}

TYPED_TEST(Matmuls, forward_gelu_keeps_its_input) {
    using T = TypeParam;
    for_each_layer([](Matmul& matmul, const Linear& layer) {
        const Case<T> c(layer);
        const Stream stream;
        for (const bool with_bias : {false, true}) {
            const Tensor<T> out(size_t(c.N) * c.O), kept(out.size());
            matmul.forward_gelu(out.get(), kept.get(), c.x.get(), c.w.get(), with_bias ? c.bias.get() : nullptr, layer,
                                stream);
            stream.synchronize();
            std::vector<float> fc(out.size()), act(out.size()), naive(out.size());
            linear_forward(fc.data(), c.x.values().data(), c.w.values().data(),
                           with_bias ? c.bias.values().data() : nullptr, c.N, c.I, c.O);
            gelu_forward(act.data(), fc.data(), c.N, c.O);
            gelu_forward(naive.data(), rounded<T>(fc).data(), c.N, c.O);
            expect_close("kept", kept, fc, roundings(c.I));
            expect_close("out", out, act, rounded<T>(naive), 2 * roundings(c.I));  // a slope of at most 1.13
        }
    });
}

template <class T>
std::vector<float> dx_of(const Case<T>& c) {
    std::vector<float> dx(size_t(c.N) * c.I), dw(size_t(c.O) * c.I);
    linear_backward(dx.data(), dw.data(), nullptr, c.dout.values().data(), c.x.values().data(), c.w.values().data(),
                    c.N, c.I, c.O, false);
    return dx;
}

TYPED_TEST(Matmuls, backward_input_matches_reference) {
    using T = TypeParam;
    for_each_layer([](Matmul& matmul, const Linear& layer) {
        const Case<T> c(layer);
        const Stream stream;
        const Tensor<T> dx(size_t(c.N) * c.I);
        matmul.backward_input(dx.get(), c.dout.get(), c.w.get(), layer, stream);
        stream.synchronize();
        expect_close("dx", dx, dx_of(c), roundings(c.O));
    });
}

TYPED_TEST(Matmuls, backward_input_gelu_matches_reference) {
    using T = TypeParam;
    for_each_schedule([] {
        Matmul matmul(kOptions);
        for (const Linear& layer : kLayers) {
            const Case<T> c(layer);
            const Stream stream;
            const size_t elems = size_t(c.N) * c.I;
            const Tensor<T> kept(random_values(elems, 5, 3));
            const std::vector<float> dx = dx_of(c);
            std::vector<float> dfc(elems), naive(elems);
            gelu_backward(dfc.data(), dx.data(), kept.values().data(), c.N, c.I);
            gelu_backward(naive.data(), rounded<T>(dx).data(), kept.values().data(), c.N, c.I);
            const Tensor<T> dkept(elems);
            matmul.backward_input_gelu(dkept.get(), c.dout.get(), c.w.get(), kept.get(), layer, stream);
            stream.synchronize();
            expect_close("dkept", dkept, dfc, rounded<T>(naive), 2 * roundings(c.O));
        }
    });
}

template <class T, class Out>
void check_backward_weight(Matmul& matmul, const Linear& layer) {
    const Case<T> c(layer);
    const Stream stream;
    std::vector<float> dx(size_t(c.N) * c.I), dw(size_t(c.O) * c.I);
    const auto reference = [&](bool accumulate) {
        linear_backward(dx.data(), dw.data(), nullptr, c.dout.values().data(), c.x.values().data(), c.w.values().data(),
                        c.N, c.I, c.O, accumulate);
    };
    reference(false);
    const Tensor<Out> actual(dw.size());
    matmul.backward_weight(actual.get(), c.dout.get(), c.x.get(), layer, false, stream);
    stream.synchronize();
    expect_close("dw =", actual, dw, roundings(c.N));
    const Tensor<Out> sum(random_values(dw.size(), 6));
    dw = sum.values();
    std::vector<float> naive = dw;
    for (int step = 0; step < 2; ++step) {
        matmul.backward_weight(sum.get(), c.dout.get(), c.x.get(), layer, true, stream);
        stream.synchronize();
        reference(true);
        std::vector<float> part(dw.size());
        linear_backward(dx.data(), part.data(), nullptr, c.dout.values().data(), c.x.values().data(),
                        c.w.values().data(), c.N, c.I, c.O, false);
        for (size_t i = 0; i < naive.size(); ++i) naive[i] += part[i];
        naive = rounded<Out>(naive);
        expect_close("dw +=", sum, dw, naive, 2 * roundings(c.N));
    }
}

TYPED_TEST(Matmuls, backward_weight_assigns_and_accumulates) {
    for_each_layer(check_backward_weight<TypeParam, TypeParam>);
}

TYPED_TEST(Matmuls, backward_weight_in_float32_assigns_and_accumulates) {
    for_each_layer(check_backward_weight<TypeParam, float>);
}

TEST(Matmul, a_second_call_of_a_kind_takes_the_plan_of_the_first) {
    Matmul matmul(kOptions);
    const Case<float> c(kSmallest);
    const Stream stream;
    const Tensor<float> out(c.dout.size()), dw(std::vector<float>(c.w.size()));
    matmul.forward(out.get(), c.x.get(), c.w.get(), nullptr, kSmallest, stream);
    EXPECT_EQ(matmul.plans(), 1u);
    const size_t timed = matmul.timed();
    EXPECT_GT(timed, 1u);
    matmul.forward(out.get(), c.x.get(), c.w.get(), nullptr, kSmallest, stream);
    EXPECT_EQ(matmul.plans(), 1u);
    EXPECT_EQ(matmul.timed(), timed);
    matmul.forward(out.get(), c.x.get(), c.w.get(), c.bias.get(), kSmallest, stream);
    matmul.backward_weight(dw.get(), c.dout.get(), c.x.get(), kSmallest, true, stream);
    matmul.backward_weight(dw.get(), c.dout.get(), c.x.get(), kSmallest, false, stream);
    EXPECT_EQ(matmul.plans(), 4u);
    stream.synchronize();
}

// A prompt of one token has the shape of a decoded token, which must have its timed plan all the same.
TEST(Matmul, plans_of_untimed_calls_are_not_those_of_others) {
    Matmul matmul;
    const Case<float> c(kSmallest);
    const Stream stream;
    const Tensor<float> out(c.dout.size());
    const auto forward = [&] { matmul.forward(out.get(), c.x.get(), c.w.get(), nullptr, kSmallest, stream); };
    {
        const Matmul::Untimed untimed(matmul);
        forward();
    }
    EXPECT_EQ(matmul.timed(), 0u);
    forward();
    EXPECT_GT(matmul.timed(), 1u);
    EXPECT_EQ(matmul.plans(), 2u);
    stream.synchronize();
}

TEST(Matmul, a_plan_is_not_bound_to_the_addresses_of_its_first_call) {
    Matmul matmul(kOptions);
    const Stream stream;
    const Linear layer{.N = 3, .I = 16, .O = 24};
    const Case<float> c(layer);
    const Tensor<float> biases[] = {Tensor<float>(random_values(c.O, 20)), Tensor<float>(random_values(c.O, 21))};
    const Tensor<float> out(c.dout.size()), kept[] = {Tensor<float>(c.dout.size()), Tensor<float>(c.dout.size())};
    for (int call = 0; call < 2; ++call) {
        matmul.forward_gelu(out.get(), kept[call].get(), c.x.get(), c.w.get(), biases[call].get(), layer, stream);
    }
    stream.synchronize();
    for (int call = 0; call < 2; ++call) {
        std::vector<float> expected(out.size());
        linear_forward(expected.data(), c.x.values().data(), c.w.values().data(), biases[call].values().data(), c.N,
                       c.I, c.O);
        expect_close("kept", kept[call], expected, roundings(c.I));
    }
    EXPECT_EQ(matmul.plans(), 1u);
}

TEST(Matmul, one_candidate_gives_the_same_bits_every_time) {
    const Linear layer{.N = 9, .I = 264, .O = 40};
    const Case<float> c(layer);
    const Stream stream;
    std::vector<float> first;
    for (int run = 0; run < 2; ++run) {
        Matmul matmul({.candidates = 1});
        const Tensor<float> out(c.dout.size());
        matmul.forward(out.get(), c.x.get(), c.w.get(), nullptr, layer, stream);
        stream.synchronize();
        EXPECT_EQ(matmul.timed(), 0u);
        const std::vector<float> bits = out.read();
        if (run == 0) first = bits;
        EXPECT_EQ(std::memcmp(bits.data(), first.data(), bits.size() * sizeof(float)), 0);
    }
}

// The library may also compute in float32 when it is allowed to use TF32, so both results are accepted.
// What the heuristic offers first may fail at its launch, with a CUDA error that nobody may see later.
TEST(Matmul, algorithm_that_cannot_be_launched_is_skipped) {
    const Stream stream;
    for (const int candidates : {1, 6}) {
        MatmulOptions options = kOptions;
        options.candidates = candidates;
        Matmul matmul(options);
        for (int N = 1; N <= 16; ++N) {
            const Linear layer{.N = N, .I = 16, .O = 24};
            const Case<float> c(layer);
            const Tensor<float> out(c.dout.size());
            matmul.forward(out.get(), c.x.get(), c.w.get(), nullptr, layer, stream);
            EXPECT_EQ(cudaGetLastError(), cudaSuccess);
            stream.synchronize();
            std::vector<float> expected(out.size());
            linear_forward(expected.data(), c.x.values().data(), c.w.values().data(), nullptr, N, c.I, c.O);
            expect_close("out", out, expected, roundings(c.I));
        }
    }
}

TEST(Matmul, tf32_is_used_only_if_it_is_allowed) {
    const Linear layer{.N = 128, .I = 256, .O = 128};
    // 1 + 2^-12 is 1 in TF32, so each term of a sum loses 2^-12. In float32 all partial sums are exact.
    const Tensor<float> x(std::vector<float>(size_t(layer.N) * layer.I, 1 + 0x1p-12f));
    const Tensor<float> w(std::vector<float>(size_t(layer.O) * layer.I, 1));
    const Stream stream;
    for (const bool tf32 : {false, true}) {
        MatmulOptions options = kOptions;
        options.tf32 = tf32;
        Matmul matmul(options);
        const Tensor<float> out(size_t(layer.N) * layer.O);
        matmul.forward(out.get(), x.get(), w.get(), nullptr, layer, stream);
        stream.synchronize();
        for (const float sum : out.read()) {
            ASSERT_TRUE(sum == 256 + 0x1p-4f || (tf32 && sum == 256)) << sum << ", tf32 " << tf32;
        }
    }
}

TEST(Matmul, a_matmul_in_a_captured_graph_runs_at_each_launch) {
    const Linear layer{.N = 5, .I = 72, .O = 40};
    Matmul matmul(kOptions);
    const Case<float> c(layer);
    const Tensor<float> dw(std::vector<float>(c.w.size())), other(std::vector<float>(c.w.size()));
    const Stream stream;
    matmul.backward_weight(other.get(), c.dout.get(), c.x.get(), layer, true, stream);
    const Graph graph(stream, [&] { matmul.backward_weight(dw.get(), c.dout.get(), c.x.get(), layer, true, stream); });
    std::vector<float> dx(c.x.size()), expected(c.w.size());
    for (int launch = 0; launch < 3; ++launch) {
        graph.launch(stream);
        linear_backward(dx.data(), expected.data(), nullptr, c.dout.values().data(), c.x.values().data(),
                        c.w.values().data(), c.N, c.I, c.O, true);
    }
    stream.synchronize();
    expect_close("dw after three launches", dw, expected, 4 * roundings(c.N));
}

std::string message_of(const std::function<void()>& call) {
    try {
        call();
    } catch (const Error& error) {
        return error.what();
    }
    return "no error";
}

TEST(Matmul, unsupported_calls_are_refused_with_the_shape) {
    KILN_SKIP_BELOW(80);  // bfloat16
    Matmul matmul(kOptions);
    const Case<__nv_bfloat16> c({.N = 4, .I = 24, .O = 24});
    const Stream stream;
    const Tensor<__nv_bfloat16> out(c.dout.size()), kept(c.dout.size());
    const auto expect_refused = [](const std::function<void()>& call, const std::string& part) {
        const std::string message = message_of(call);
        EXPECT_TRUE(message.find(part) != message.npos) << message;
    };
    const Linear layer{.N = 4, .I = 24, .O = 24}, narrow{.N = 4, .I = 24, .O = 12};
    expect_refused([&] { matmul.forward(out.get() + 1, c.x.get(), c.w.get(), nullptr, layer, stream); },
                   "m 24, n 4, k 24 in bfloat16");
    expect_refused([&] { matmul.forward(out.get(), c.x.get() + 4, c.w.get(), nullptr, layer, stream); },
                   "is not a multiple of 16");
    expect_refused([&] { matmul.forward_gelu(out.get(), kept.get(), c.x.get(), c.w.get(), nullptr, narrow, stream); },
                   "O must be a multiple of 8, not 12");
    expect_refused([&] { matmul.forward(out.get(), c.x.get(), c.w.get(), nullptr, {0, 24, 24}, stream); }, "n 0");
    const auto capture = [&] {
        const Graph graph(stream, [&] { matmul.forward(out.get(), c.x.get(), c.w.get(), nullptr, layer, stream); });
    };
    expect_refused(capture, "m 24, n 4, k 24 in bfloat16 to bfloat16 has no plan yet; run it once before");
    EXPECT_EQ(matmul.plans(), 0u);
    const __nv_bfloat16* const none = nullptr;  // the heuristic does not see it
    expect_refused([&] { matmul.forward(out.get(), none, c.w.get(), nullptr, layer, stream); },
                   "cuBLASLt could launch none of its algorithms: CUBLAS_STATUS_INVALID_VALUE");
}

}  // namespace
}  // namespace kiln::test
