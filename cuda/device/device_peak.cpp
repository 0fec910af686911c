#include "cuda/device/device_peak.h"

#include <algorithm>
#include <limits>
#include <random>
#include <vector>

#include "cuda/device/element_types.h"
#include "cuda/device/gpu_peaks.h"
#include "cuda/device/require_gpu.h"
#include "cuda/device/transfer.h"
#include "cuda/engine/matmul.h"

namespace kiln {

namespace {

template <class E>
Arithmetic arithmetic(bool tf32) {
    if (std::is_same_v<E, __nv_bfloat16>) return Arithmetic::bfloat16;
    if (std::is_same_v<E, __half>) return Arithmetic::float16;
    return tf32 ? Arithmetic::tf32 : Arithmetic::float32;
}

}  // namespace

template <class E>
double measured_flops(bool tf32, int size) {
    constexpr int kRepeats = 8;
    const size_t elems = size_t(size) * size_t(size);
    const Stream stream;
    const Event begin, end;
    Matmul matmul({.candidates = 2, .tf32 = tf32});
    // Random numbers: with zeros the GPU draws less power and runs faster. One matrix is both operands.
    const DeviceBuffer<E> x(elems), out(elems);
    std::vector<float> values(elems);
    std::minstd_rand random;
    for (float& value : values) value = float(random()) / float(std::minstd_rand::max()) - 0.5f;
    upload(x.get(), values.data(), elems, 1, stream);
    float best_ms = std::numeric_limits<float>::max();
    for (int i = 0; i < kRepeats; i++) {
        begin.record(stream);
        matmul.forward(out.get(), x.get(), x.get(), nullptr, {size, size, size}, stream);
        end.record(stream);
        end.synchronize();
        float ms = 0;
        CUDA_CHECK(cudaEventElapsedTime(&ms, begin, end));
        best_ms = std::min(best_ms, ms);
    }
    return 2e3 * double(elems) * size / double(best_ms);
}

template <class E>
DevicePeak device_peak(bool tf32) {
    int device = 0;
    cudaDeviceProp properties{};
    CUDA_CHECK(cudaGetDevice(&device));
    CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
    const double stated = peak_flops(properties.name, properties.multiProcessorCount, arithmetic<E>(tf32));
    if (stated > 0) return {stated, false};
    return {built_for_emulator() ? 0 : measured_flops<E>(tf32), true};
}

#define KILN_PEAK(E)                              \
    template double measured_flops<E>(bool, int); \
    template DevicePeak device_peak<E>(bool);
KILN_FOR_TYPES(KILN_PEAK)

}  // namespace kiln
