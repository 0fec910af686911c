// The instructions of cuda/kernels/hopper.cuh, on a GPU of compute capability 9.0 or on the emulator.
#include <gtest/gtest.h>

#include <optional>

#include "cuda/device/require_gpu.h"
#include "tests/cuda/hopper/kernels.h"
#include "tests/cuda/kernel_case.h"
#include "tests/cuda/needs.h"
#include "tests/cuda/reference_matmul.h"
#include "tests/cuda/schedules.h"

namespace kiln::test {
namespace {

class Hopper : public testing::Test {
protected:
    void SetUp() override {
        if (compute_capability() != 90) {
            GTEST_SKIP() << "skipped: needs sm_90, but the device is sm_" << compute_capability();
        }
        if (!built_for("90a")) GTEST_SKIP() << "skipped: this build has no sm_90a: make GPU_ARCHS=90a";
    }
};

// A tensor of `dims` whose rows are `pitch` elements apart.
TensorLayout layout_of(const std::vector<uint64_t>& dims, uint64_t pitch, const std::vector<uint32_t>& box,
                       Swizzle swizzle) {
    TensorLayout layout{dims, {}, box, swizzle};
    for (size_t i = 1; i < dims.size(); ++i) layout.strides_elems.push_back(i == 1 ? pitch : pitch *= dims[i - 1]);
    return layout;
}

size_t elems_of(const TensorLayout& layout) {
    return size_t(layout.dims.back() * layout.strides_elems.back());
}

// Where the element at these coordinates lies; nothing if it is outside the tensor.
std::optional<size_t> position(const TensorLayout& layout, const std::vector<uint64_t>& at) {
    size_t position = at[0];
    for (size_t i = 0; i < at.size(); ++i) {
        if (at[i] >= layout.dims[i]) return std::nullopt;
        if (i > 0) position += at[i] * layout.strides_elems[i - 1];
    }
    return position;
}

void expect_copied(const TensorLayout& out, const TensorLayout& in) {
    const std::vector<float> values = random_values(elems_of(in), 1);
    const Tensor<float> from(values);
    for_each_schedule([&] {
        const Stream stream;
        const Tensor<float> to(std::vector<float>(elems_of(out), -1));
        copy_tiles(to.get(), out, from.get(), in, stream);
        stream.synchronize();
        std::vector<float> expected(elems_of(out), -1);  // the kernel writes nothing between the rows
        std::vector<uint64_t> at(out.dims.size(), 0);
        for (bool more = true; more;) {
            const auto source = position(in, at);
            expected[*position(out, at)] = source ? 2 * values[*source] : 0;
            size_t i = 0;
            while (i < at.size() && ++at[i] == out.dims[i]) at[i++] = 0;
            more = i < at.size();
        }
        EXPECT_EQ(to.read(), expected);
        to.expect_sentinel("out");
    });
}

TEST_F(Hopper, tma_copies_two_dimensions_with_every_swizzle) {
    for (const auto& [swizzle, width] : {std::pair(Swizzle::none, 36u),
                                         {Swizzle::bytes_32, 8u},
                                         {Swizzle::bytes_64, 16u},
                                         {Swizzle::bytes_128, 32u}}) {
        SCOPED_TRACE(width);
        expect_copied(layout_of({70, 45}, 76, {width, 16}, swizzle), layout_of({70, 45}, 72, {width, 16}, swizzle));
    }
}
TEST_F(Hopper, tma_fills_with_zeros_outside_the_tensor) {
    expect_copied(layout_of({70, 45}, 72, {32, 16}, Swizzle::bytes_128),
                  layout_of({61, 20}, 64, {32, 16}, Swizzle::bytes_128));
}
TEST_F(Hopper, tma_copies_three_and_four_dimensions) {
    expect_copied(layout_of({20, 5, 7}, 20, {16, 3, 2}, Swizzle::bytes_64),
                  layout_of({18, 5, 6}, 24, {16, 3, 2}, Swizzle::bytes_64));
    expect_copied(layout_of({12, 3, 5, 5}, 16, {8, 2, 2, 3}, Swizzle::bytes_32),
                  layout_of({12, 3, 4, 5}, 12, {8, 2, 2, 3}, Swizzle::bytes_32));
}
TEST_F(Hopper, unsupported_tensor_maps_are_refused_with_the_reason) {
    const Tensor<float> data(64 * 64);
    const auto message = [&](const TensorLayout& layout) -> std::string {
        try {
            tensor_map(data.get(), layout);
        } catch (const Error& error) {
            return error.what();
        }
        return "no error";
    };
    EXPECT_NE(message(layout_of({61, 64}, 61, {32, 8}, Swizzle::none)).find("244"), std::string::npos);
    EXPECT_NE(message(layout_of({64, 64}, 64, {64, 8}, Swizzle::bytes_128)).find("64 x 8"), std::string::npos);
    EXPECT_NE(message({{64, 64}, {}, {32, 8}, Swizzle::none}).find("1 to 5 dimensions"), std::string::npos);
}

template <class T>
void expect_tile(OperandA from, bool transposed_b, int N, Swizzle swizzle) {
    SCOPED_TRACE("A " + std::to_string(int(from)) + ", B " + (transposed_b ? "N-major" : "K-major") + ", N " +
                 std::to_string(N) + ", swizzle " + std::to_string(int(swizzle)));
    constexpr int kSide = 64;
    const Tensor<T> a(random_values(kSide * kSide, 1));
    const Tensor<T> b(random_values(size_t(N) * kSide, 2));
    const ReferenceMatmul reference(
        kSide, N, kSide,
        [&](int m, int k) { return a.values()[size_t(from == OperandA::m_major ? k * kSide + m : m * kSide + k)]; },
        [&](int n, int k) { return b.values()[size_t(transposed_b ? k * N + n : n * kSide + k)]; });
    for_each_schedule([&] {
        const Stream stream;
        const Tensor<float> c(size_t(kSide) * N);
        wgmma_tile(c.get(), a.get(), from, b.get(), transposed_b, N, swizzle, stream);
        stream.synchronize();
        expect_close("c", c, reference.expected, reference.naive, tensor_core_roundings(kSide));
    });
}

TEST_F(Hopper, wgmma_takes_operands_in_every_layout_and_width) {
    for (const OperandA from : {OperandA::k_major, OperandA::m_major, OperandA::registers}) {
        for (const bool transposed_b : {false, true}) {
            for (const int N : {64, 128, 192, 256}) {
                expect_tile<__nv_bfloat16>(from, transposed_b, N, Swizzle::bytes_128);
            }
            KILN_IF_FLOAT16(expect_tile<__half>(from, transposed_b, 128, Swizzle::bytes_128);)
            for (const Swizzle swizzle : {Swizzle::bytes_64, Swizzle::bytes_32}) {
                expect_tile<__nv_bfloat16>(from, transposed_b, 64, swizzle);
            }
        }
        KILN_IF_FLOAT16(if (from != OperandA::m_major) expect_tile<__half>(from, false, 96, Swizzle::bytes_128);)
    }
}

TEST_F(Hopper, matmul_of_uneven_sizes_matches_reference) {
    for (const auto& [M, N, K] : {std::tuple(200, 140, 328), {64, 128, 64}, {1, 4, 8}}) {
        SCOPED_TRACE(M);
        const Tensor<__nv_bfloat16> a(random_values(size_t(M) * K, 1));
        const Tensor<__nv_bfloat16> b(random_values(size_t(N) * K, 2));
        const ReferenceMatmul reference(
            M, N, K, [&, K = K](int m, int k) { return a.values()[size_t(m) * K + k]; },
            [&, K = K](int n, int k) { return b.values()[size_t(n) * K + k]; });
        std::optional<uint64_t> bits;
        for_each_schedule([&, M = M, N = N, K = K] {
            const Stream stream;
            const Tensor<float> c(size_t(M) * N);
            hopper_matmul(c.get(), a.get(), b.get(), M, N, K, stream);
            stream.synchronize();
            const uint64_t now = hash_of_tensors();
            ASSERT_EQ(bits.value_or(now), now) << "the bits depend on the order in which threads ran";
            bits = now;
            expect_close("c", c, reference.expected, reference.naive, tensor_core_roundings(K));
        });
    }
}

}  // namespace
}  // namespace kiln::test
