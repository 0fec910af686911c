#pragma once
// The dense peak rates of NVIDIA's GPUs, after their datasheets and architecture white papers. Collected by hand: a
// test holds rows against each other (rates of one GPU, clocks they imply), not each against its sheet. A wrong row
// makes a wrong utilisation and nothing else; mend it with its source.
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
