#pragma once
// The dense peak rates of NVIDIA's GPUs, after their datasheets and architecture white papers. Collected by hand, and
// gone through a second time: float32 is multiprocessors x CUDA cores x 2 x the boost clock stated for that GPU, and
// the others are its multiples in that architecture, or the sheet's own where it caps them (H100 PCIe and NVL, H20,
// B200). A test holds rows against each other (rates of one GPU, clocks they imply). Doubtful: RTX PRO 6000 Blackwell
// Server Edition, of which NVIDIA has stated 117 and 120 TFLOP/s. Not in it: GB10, whose rate with float32 sums is not
// stated. A wrong row makes a wrong utilisation and nothing else; mend it with its source.
#include <cstdint>
#include <span>
#include <string_view>

namespace kiln {

enum class Arithmetic : uint8_t { float32, tf32, bfloat16, float16, float8 };  // float32: on the CUDA cores

// TFLOP/s at the boost clock of the specification, accumulating in float32, without sparsity; 0: not offered or not
// stated.
struct GpuPeaks {
    std::string_view name;  // as cudaDeviceProp::name has it, less "NVIDIA" and the size of the memory
    int multiprocessors;
    float float32, tf32, bfloat16, float16, float8;
};

// FLOP/s of the GPU of that cudaDeviceProp::name, or 0 where it is not in the table: then measure a product, or report
// no utilisation. It is never scaled by the clock at which a GPU happens to run. Laptop parts and slices of a GPU bear
// the names of larger ones, so both the whole name and the number of multiprocessors have to match.
double peak_flops(std::string_view name, int multiprocessors, Arithmetic arithmetic);

std::span<const GpuPeaks> known_gpus();

}  // namespace kiln
