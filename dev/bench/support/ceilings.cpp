#include "dev/bench/support/ceilings.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/rng.h"
#include "cuda/device/attributes.h"
#include "cuda/device/transfer.h"
#include "cuda/engine/matmul.h"
#include "dev/bench/support/read_memory.h"
#include "dev/bench/support/repeat.h"

namespace kiln::bench {

std::string gpu_name() {
    int devices = 0;
    KILN_CHECK(cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0,
               "no CUDA device; run it where `nvidia-smi` shows one");
    cudaDeviceProp properties;
    CUDA_CHECK(cudaGetDeviceProperties(&properties, 0));
    return properties.name;
}

bool has_bfloat16() {
    return compute_capability() >= 80;
}

Timer::Timer(int launches) : launches_(launches), sums_(kReadBlocks) {
    int l2_bytes = 0;
    CUDA_CHECK(cudaDeviceGetAttribute(&l2_bytes, cudaDevAttrL2CacheSize, 0));
    other_ = DeviceBuffer<float>(size_t(l2_bytes) * 2 / sizeof(float));
    clear(other_.get(), other_.size(), stream_);
}

void Timer::load(double seconds, const std::function<void(cudaStream_t)>& work) {
    using Clock = std::chrono::steady_clock;
    constexpr int kAtOnce = 10;  // queued, so that the GPU does not wait for the host
    const auto end = Clock::now() + std::chrono::duration<double>(seconds);
    while (Clock::now() < end) {
        for (int i = 0; i < kAtOnce; i++) work(stream_);
        stream_.synchronize();
    }
}

double Timer::median_ms(const std::function<void(cudaStream_t)>& work) {
    constexpr int kAtLeast = 5;
    constexpr double kEnoughMs = 1000;
    work(stream_);
    stream_.synchronize();
    std::vector<float> times;
    double spent_ms = 0;
    while (int(times.size()) < launches_ && (int(times.size()) < kAtLeast || spent_ms < kEnoughMs)) {
        read_memory(sums_.get(), other_.get(), other_.size(), stream_);
        start_.record(stream_);
        work(stream_);
        end_.record(stream_);
        end_.synchronize();
        float ms = 0;
        CUDA_CHECK(cudaEventElapsedTime(&ms, start_, end_));
        times.push_back(ms);
        spent_ms += ms;
    }
    std::nth_element(times.begin(), times.begin() + ptrdiff_t(times.size() / 2), times.end());
    return std::max(times[times.size() / 2], 1e-6f);
}

namespace {

template <class T>
double matmul_tflop_per_s(Timer& timer, int n, double load_seconds) {
    const size_t elems = size_t(n) * size_t(n);
    const DeviceBuffer<T> a(elems), b(elems), out(elems);
    const Stream stream;
    // Random data: a matmul of zeros draws less power and runs faster.
    std::vector<float> values(std::min(elems, size_t(1) << 20));
    for (const auto* matrix : {&a, &b}) {
        for (size_t i = 0; i < values.size(); i++) {
            values[i] = uniform01(philox4x32(matrix == &a, uint32_t(i), 0, 0, 0).v[0]) - 0.5f;
        }
        upload(matrix->get(), values.data(), values.size(), 1, stream);
        repeat(matrix->get(), values.size(), elems, stream);
    }
    stream.synchronize();
    Matmul matmul;
    const auto work = [&](cudaStream_t on) {
        matmul.forward(out.get(), a.get(), b.get(), nullptr, {.N = n, .I = n, .O = n}, on);
    };
    timer.load(load_seconds, work);
    return 2.0 * double(elems) * n / timer.median_ms(work) * 1e-9;
}

}  // namespace

Ceilings measure_ceilings(Timer& timer, bool small) {
    const size_t bytes = small ? size_t(1) << 20 : size_t(1) << 30;
    const DeviceBuffer<unsigned char> from(bytes), to(bytes);
    CUDA_CHECK(cudaMemset(from.get(), 1, bytes));
    CUDA_CHECK(cudaDeviceSynchronize());  // the timer's stream does not wait for the legacy stream
    const double copy_ms = timer.median_ms([&](cudaStream_t stream) {
        CUDA_CHECK(cudaMemcpyAsync(to.get(), from.get(), bytes, cudaMemcpyDeviceToDevice, stream));
    });

    const int n = small ? 64 : 8192;
    const double load_seconds = small ? 0.1 : 2;
    const double tflop_per_s = has_bfloat16() ? matmul_tflop_per_s<__nv_bfloat16>(timer, n, load_seconds)
                                              : matmul_tflop_per_s<__half>(timer, n, load_seconds);
    return {2.0 * double(bytes) / copy_ms * 1e-6, tflop_per_s};
}

}  // namespace kiln::bench
