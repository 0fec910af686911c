// For `make attention-report`, on the emulator: launches each instance of the attention kernels and prints what it
// takes of a multiprocessor.
#include <iomanip>
#include <iostream>
#include <set>
#include <tuple>

#include "cuda/device/handles.h"
#include "cuda/kernels/kernels.h"
#include "dev/bench/support/program.h"
#include "dev/emulator/core/architecture.h"
#include "dev/emulator/core/internal.h"
#include "dev/emulator/core/kernels.h"

namespace kiln::bench {
namespace {

// Name, kernel, threads of a block, bytes of dynamic shared memory.
using Instance = std::tuple<std::string, const void*, int, size_t>;
std::set<Instance>& instances() {
    static std::set<Instance> all;
    return all;
}

// One token of one sequence launches the same instances as many tokens do.
template <class E>
void launch_flash() {
    constexpr int kMost = 256;
    const DeviceBuffer<E> qkv(3 * kMost), dqkv(3 * kMost), out(kMost);
    const DeviceBuffer<float> lse(1);
    for (const int HS : {32, 64, 80, 96, 128, 256}) {
        const DeviceBuffer<float> scratch(flash_attention_scratch_floats(1, 1, 1, 1, HS, false));
        for (const float p : {0.0f, 0.5f}) {
            const Dropout d{.p = p};
            flash_attention_forward(out.get(), lse.get(), qkv.get(), {}, d, 1, 1, 1, 1, HS, nullptr);
            flash_attention_backward(dqkv.get(), BiasGradient<float>{}, scratch.get(), out.get(), out.get(), qkv.get(),
                                     lse.get(), {}, d, 1, 1, 1, 1, HS, nullptr);
        }
    }
}

template <class E>
void launch_cached() {
    constexpr int kMost = 256;
    const DeviceBuffer<E> qkv(3 * kMost), k(kMost), v(kMost), out(kMost);
    const DeviceBuffer<float> scratch(attention_cached_scratch_floats(kMost));
    const DeviceBuffer<int> arrivals(attention_cached_arrivals()), positions(1);
    for (const int HS : {64, 128, 256}) {
        attention_cached(CachedAttention<E>{out.get(), scratch.get(), arrivals.get(), qkv.get(), k.get(), v.get(),
                                            positions.get(), 1, 1, 1, 1, 1, HS},
                         nullptr);
    }
}

void launch_all() {
    simt::set_launch_only(true);
    simt::set_launch_observer([](const simt::Launch& launch) {
        instances().emplace(simt::kernel_name(launch.kernel), launch.kernel, int(launch.block.x), launch.shared_bytes);
    });
    for (const int capability : {75, 80, 90, 120}) {
        simt::set_architecture(capability);
        launch_cached<__nv_bfloat16>();
        launch_cached<__half>();
        launch_cached<float>();
        if (capability == 75) continue;
        launch_flash<__nv_bfloat16>();
        launch_flash<__half>();
    }
}

void check_complete() {
    std::set<std::string> names;
    for (const auto& instance : instances()) names.insert(std::get<std::string>(instance));
    for (const std::string& name : simt::kernels_of_table()) {
        const bool wanted = name.starts_with("flash_attention") || name.starts_with("attend_cache");
        KILN_CHECK(!wanted || names.contains(name), "nothing launched ", name);
    }
}

void run(const std::vector<std::string>&) {
    launch_all();
    check_complete();
    std::cout
        << R"(# Written by `make attention-report`. For each instance of the attention kernels: threads and bytes of dynamic shared memory
# of a block; on sm_80, sm_90a and sm_120, registers and spilled bytes of a thread, static shared memory, and how many blocks
# run on a multiprocessor (-: none, since a block is too large; there the launcher takes an instance with smaller tiles).
)";
    const auto row = [](const auto&... cells) {
        size_t i = 0;
        constexpr int kWidths[] = {64, 8, 8, 14, 12, 20, 0};
        std::cout << std::left;
        ((std::cout << (i > 0 ? " " : "") << std::setw(kWidths[i]) << cells, ++i), ...);
        std::cout << "\n";
    };
    row("# kernel", "threads", "dynamic", "registers", "spills", "static", "blocks");
    for (const auto& [name, kernel, threads, dynamic_bytes] : instances()) {
        std::string registers, spills, fixed, blocks;
        for (const int capability : {80, 90, 120}) {
            simt::set_architecture(capability);
            const auto by_ptxas = simt::resources_of(kernel);
            KILN_CHECK(by_ptxas, name, " is not in dev/bench/kernel_resources.txt; run 'make kernel-table'");
            const int held = simt::blocks_of_multiprocessor(*by_ptxas, threads, dynamic_bytes);
            const std::string space = capability == 80 ? "" : " ";
            registers += space + std::to_string(by_ptxas->registers);
            spills += space + std::to_string(by_ptxas->spilled_bytes);
            fixed += space + std::to_string(by_ptxas->shared_bytes);
            blocks += space + (held > 0 ? std::to_string(held) : "-");
        }
        row(name, threads, dynamic_bytes, registers, spills, fixed, blocks);
    }
}

}  // namespace
}  // namespace kiln::bench

int main(int argc, char** argv) {
    return kiln::bench::run_benchmark("attention_report", kiln::bench::run, argc, argv);
}
