// For `make attention-report`, on the emulator: launches each instance of the attention kernels and prints for each a
// line "KERNEL|THREADS|BYTES OF DYNAMIC SHARED MEMORY".
#include <iostream>
#include <set>

#include "cuda/device/handles.h"
#include "cuda/kernels/kernels.h"
#include "dev/bench/support/program.h"
#include "dev/emulator/core/internal.h"

namespace kiln::bench {
namespace {

std::set<std::string>& lines() {
    static std::set<std::string> all;
    return all;
}

void note(const simt::Launch& launch) {
    std::string name = simt::kernel_name(launch.kernel);
    for (const std::string& scope : {std::string("kiln::"), std::string("{anonymous}::")}) {
        for (size_t at; (at = name.find(scope)) != name.npos;) name.erase(at, scope.size());
    }
    lines().insert(name + "|" + std::to_string(launch.block.x) + "|" + std::to_string(launch.shared_bytes));
}

// One token of one sequence launches the same instances as many tokens do.
template <class E>
void launch_flash(cudaStream_t stream) {
    constexpr int kMost = 256;
    const DeviceBuffer<E> qkv(3 * kMost), dqkv(3 * kMost), out(kMost);
    const DeviceBuffer<float> lse(1);
    for (const int HS : {32, 64, 80, 96, 128, 256}) {
        const DeviceBuffer<float> scratch(flash_attention_scratch_floats(1, 1, 1, HS));
        for (const float p : {0.0f, 0.5f}) {
            const Dropout d{.p = p};
            for (const int limit : {227 << 10, 163 << 10, 99 << 10}) {  // of sm_90; sm_80; sm_86, sm_89 and sm_120
                flash_attention_forward(out.get(), lse.get(), qkv.get(), {}, d, 1, 1, 1, 1, HS, stream, limit);
                flash_attention_backward(dqkv.get(), scratch.get(), out.get(), out.get(), qkv.get(), lse.get(), {}, d,
                                         1, 1, 1, 1, HS, stream, limit);
            }
        }
    }
}

template <class E>
void launch_cached(cudaStream_t stream) {
    constexpr int kMost = 256;
    const DeviceBuffer<E> qkv(3 * kMost), k(kMost), v(kMost), out(kMost);
    const DeviceBuffer<float> scratch(attention_cached_scratch_floats(kMost));
    const DeviceBuffer<int> arrivals(attention_cached_arrivals()), positions(1);
    CUDA_CHECK(cudaMemset(arrivals.get(), 0, arrivals.bytes()));
    CUDA_CHECK(cudaMemset(positions.get(), 0, positions.bytes()));
    for (const int HS : {64, 128, 256}) {
        attention_cached(CachedAttention<E>{out.get(), scratch.get(), arrivals.get(), qkv.get(), k.get(), v.get(),
                                            positions.get(), 1, 1, 1, 1, 1, HS},
                         stream);
    }
}

void run(const std::vector<std::string>&) {
    simt::set_launch_observer(note);
    const Stream stream;
    launch_flash<__nv_bfloat16>(stream);
    launch_flash<__half>(stream);
    launch_cached<__nv_bfloat16>(stream);
    launch_cached<__half>(stream);
    launch_cached<float>(stream);
    stream.synchronize();
    for (const std::string& line : lines()) std::cout << line << "\n";
}

}  // namespace
}  // namespace kiln::bench

int main(int argc, char** argv) {
    return kiln::bench::run_benchmark("attention_launches", kiln::bench::run, argc, argv);
}
