// Collectives between GPUs: by NCCL on a GPU, by its stand-in on the emulator.
#include "cuda/parallel/device_communicator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include "cuda/device/convert.h"
#include "cuda/device/handles.h"
#include "tests/cuda/ranks.h"

namespace kiln::test {
namespace {

template <class T>
DeviceBuffer<T> on_device(const std::vector<T>& values) {
    DeviceBuffer<T> buffer(values.size());
    if (!values.empty()) CUDA_CHECK(cudaMemcpy(buffer.get(), values.data(), buffer.bytes(), cudaMemcpyHostToDevice));
    CUDA_CHECK(cudaDeviceSynchronize());
    return buffer;
}
template <class T>
std::vector<T> on_host(const T* data, size_t n, const Stream& stream) {
    std::vector<T> values(n);
    stream.synchronize();
    if (n > 0) CUDA_CHECK(cudaMemcpy(values.data(), data, n * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
}

// Whole numbers whose sums every type holds.
template <class T>
T value(size_t i, int rank) {
    return from_float<T>(float(int(i * 7 + size_t(rank) * 3) % 11 - 5));
}
template <class T>
std::vector<T> values_of(int rank, size_t n) {
    std::vector<T> values(n);
    for (size_t i = 0; i < n; i++) values[i] = value<T>(i, rank);
    return values;
}
template <class T>
float sum_at(size_t i, int size) {
    float sum = 0;
    for (int r = 0; r < size; r++) sum += to_float(value<T>(i, r));
    return sum;
}

template <class T>
class Collectives {
public:
    Collectives(DeviceCommunicator& ranks, size_t n)
        : ranks_(ranks), n_(n), size_(size_t(ranks.size())), rank_(size_t(ranks.rank())) {}

    void check() {
        for (const bool in_place : {false, true}) {
            all_reduce(in_place);
            reduce_scatter(in_place);
            all_gather(in_place);
        }
        for (int root = 0; root < ranks_.size(); root++) broadcast(root);
        group();
    }

private:
    void all_reduce(bool in_place) {
        const auto in = on_device(values_of<T>(ranks_.rank(), n_)), separate = on_device(std::vector<T>(n_));
        T* const out = in_place ? in.get() : separate.get();
        ranks_.all_reduce(in.get(), out, n_, stream_);
        expect_sums(out, 0, "all_reduce");
    }
    void reduce_scatter(bool in_place) {
        const auto in = on_device(values_of<T>(ranks_.rank(), n_ * size_)), separate = on_device(std::vector<T>(n_));
        T* const out = in_place ? in.get() + rank_ * n_ : separate.get();
        ranks_.reduce_scatter(in.get(), out, n_, stream_);
        expect_sums(out, rank_ * n_, "reduce_scatter");
    }
    void all_gather(bool in_place) {
        const auto in = on_device(values_of<T>(ranks_.rank(), n_)), out = on_device(std::vector<T>(n_ * size_));
        T* const own = out.get() + rank_ * n_;
        if (in_place) CUDA_CHECK(cudaMemcpyAsync(own, in.get(), in.bytes(), cudaMemcpyDeviceToDevice, stream_));
        ranks_.all_gather(in_place ? own : in.get(), out.get(), n_, stream_);
        const auto got = on_host(out.get(), n_ * size_, stream_);
        for (size_t i = 0; i < got.size(); i++) {
            ASSERT_EQ(to_float(got[i]), to_float(value<T>(i % n_, int(i / n_)))) << "all_gather, element " << i;
        }
    }
    void broadcast(int root) {
        const auto data = on_device(values_of<T>(ranks_.rank(), n_));
        ranks_.broadcast(data.get(), n_, root, stream_);
        const auto got = on_host(data.get(), n_, stream_);
        for (size_t i = 0; i < n_; i++) ASSERT_EQ(to_float(got[i]), to_float(value<T>(i, root))) << "broadcast";
    }
    void group() {
        const auto sum = on_device(values_of<T>(ranks_.rank(), n_)), part = on_device(values_of<T>(ranks_.rank(), n_));
        const auto all = on_device(std::vector<T>(n_ * size_));
        ranks_.group([&] {
            ranks_.all_reduce(sum.get(), sum.get(), n_, stream_);
            ranks_.all_gather(part.get(), all.get(), n_, stream_);
        });
        expect_sums(sum.get(), 0, "all_reduce in a group");
        const auto got = on_host(all.get(), n_ * size_, stream_);
        for (size_t i = 0; i < got.size(); i++) ASSERT_EQ(to_float(got[i]), to_float(value<T>(i % n_, int(i / n_))));
    }
    // out (n) is the sum of the elements from `first` on.
    void expect_sums(const T* out, size_t first, const char* what) {
        const auto got = on_host(out, n_, stream_);
        for (size_t i = 0; i < n_; i++) {
            ASSERT_EQ(to_float(got[i]), sum_at<T>(first + i, int(size_))) << what << ", element " << i << " of " << n_;
        }
    }

    DeviceCommunicator& ranks_;
    const size_t n_, size_, rank_;
    const Stream stream_;
};

template <class T>
void check_type(DeviceCommunicator& ranks, const char* name) {
    SCOPED_TRACE(name);
    for (const size_t n : {0, 1, 7, 1000}) Collectives<T>(ranks, n).check();
}

// Longer than what the stand-in exchanges at once.
void check_long(DeviceCommunicator& ranks) {
    Collectives<float>(ranks, (256 << 10) / sizeof(float) + 3).check();
}

void check_that_ranks_have_the_same_bits(DeviceCommunicator& ranks, Communicator& host) {
    constexpr size_t kElems = 3001;
    std::mt19937 rng(unsigned(ranks.rank()) + 1);
    std::normal_distribution<float> normal;
    std::vector<__nv_bfloat16> mine(kElems);
    for (auto& x : mine) x = from_float<__nv_bfloat16>(normal(rng));
    const Stream stream;
    const auto data = on_device(mine);
    ranks.all_reduce(data.get(), data.get(), kElems, stream);
    const auto got = on_host(data.get(), kElems, stream);
    auto theirs = got;
    host.broadcast(theirs.data(), kElems * sizeof theirs[0], 0);
    EXPECT_EQ(std::memcmp(theirs.data(), got.data(), kElems * sizeof got[0]), 0);
}

// NCCL runs the work of a communicator in the order of the calls, on whatever streams.
void check_several_streams(DeviceCommunicator& ranks) {
    const Stream streams[3];
    std::vector<DeviceBuffer<float>> data;
    for (size_t n = 1; n <= 3; n++) data.push_back(on_device(std::vector<float>(n, 1)));
    for (int i = 0; i < 9; i++) {
        const auto& own = data[size_t(i % 3)];
        ranks.all_reduce(own.get(), own.get(), own.size(), streams[i % 3]);
    }
    for (size_t i = 0; i < 3; i++) {
        EXPECT_EQ(on_host(data[i].get(), i + 1, streams[i])[i], float(std::pow(ranks.size(), 3)));
    }
}

void check_graph(DeviceCommunicator& ranks) {
    const Stream stream;
    const auto data = on_device(std::vector<float>(5, 1));
    const Graph graph(stream, [&] { ranks.all_reduce(data.get(), data.get(), 5, stream); });
    for (int i = 0; i < 3; i++) graph.launch(stream);
    EXPECT_EQ(on_host(data.get(), 5, stream)[4], float(std::pow(ranks.size(), 3)));
}

void check_bytes_sent(DeviceCommunicator& ranks) {
    const Stream stream;
    const auto size = uint64_t(ranks.size());
    const auto in = on_device(std::vector<float>(12 * size)), out = on_device(std::vector<float>(12 * size));
    const auto sent = [&](auto call) {
        const uint64_t before = ranks.bytes_sent();
        call();
        return ranks.bytes_sent() - before;
    };
    EXPECT_EQ(sent([&] { ranks.all_reduce(in.get(), out.get(), 12, stream); }), 2 * 48 * (size - 1) / size);
    EXPECT_EQ(sent([&] { ranks.reduce_scatter(in.get(), out.get(), 12, stream); }), 48 * (size - 1));
    EXPECT_EQ(sent([&] { ranks.all_gather(in.get(), out.get(), 12, stream); }), 48 * (size - 1));
    EXPECT_EQ(sent([&] { ranks.broadcast(in.get(), 12, 0, stream); }), 48 * (size - 1) / size);
    stream.synchronize();
}

class Ranks : public testing::TestWithParam<int> {};

// One test, since on a GPU the ranks take seconds to find each other.
TEST_P(Ranks, exchange_and_sum_what_each_has) {
    expect_ranks(GetParam(), [](Communicator& host) {
        DeviceCommunicator ranks(host);
        EXPECT_EQ(ranks.size(), host.size());
        for_each_schedule([&] {
            check_type<float>(ranks, "float32");
            check_type<__nv_bfloat16>(ranks, "bfloat16");
            check_type<__half>(ranks, "float16");
            check_type<double>(ranks, "float64");
            check_type<int>(ranks, "int32");
            check_that_ranks_have_the_same_bits(ranks, host);
            check_several_streams(ranks);
            check_graph(ranks);
        });
        check_long(ranks);
        check_bytes_sent(ranks);
        ranks.check();
    });
}

std::vector<int> sizes() {
    return is_emulated() ? std::vector{1, 2, 3, 4} : std::vector{1, 2};
}
INSTANTIATE_TEST_SUITE_P(DeviceCommunicator, Ranks, testing::ValuesIn(sizes()));

}  // namespace
}  // namespace kiln::test
