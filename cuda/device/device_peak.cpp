#include "cuda/device/device_peak.h"

#include <algorithm>
#include <limits>

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

template <class E>
double measured_flops(bool tf32) {
    constexpr int kSize = 4096, kRepeats = 8;
    constexpr size_t kElems = size_t(kSize) * kSize;
    const Stream stream;
    const Event begin, end;
    Matmul matmul({.tf32 = tf32});
    const DeviceBuffer<E> x(kElems), w(kElems), out(kElems);
    clear(x.get(), kElems, stream);
    clear(w.get(), kElems, stream);
    float best_ms = std::numeric_limits<float>::max();
    for (int i = 0; i < kRepeats; i++) {
        begin.record(stream);
        matmul.forward(out.get(), x.get(), w.get(), nullptr, {kSize, kSize, kSize}, stream);
        end.record(stream);
        end.synchronize();
        float ms = 0;
        CUDA_CHECK(cudaEventElapsedTime(&ms, begin, end));
        best_ms = std::min(best_ms, ms);
    }
    return 2e3 * double(kElems) * kSize / double(best_ms);
}

}  // namespace

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

template DevicePeak device_peak<float>(bool);
template DevicePeak device_peak<__nv_bfloat16>(bool);
template DevicePeak device_peak<__half>(bool);

}  // namespace kiln
