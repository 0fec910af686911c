#pragma once
// Dense peak rates of NVIDIA's GPUs, from datasheets and architecture white papers, checked by hand. float32 is
// multiprocessors x CUDA cores x 2 x the stated boost clock. The other rates are the architecture's multiples of it, or
// the datasheet's value if that is lower (H100 PCIe and NVL, H20, B200). A test checks that the rates of a row and the
// clock that they imply fit together. Uncertain: RTX PRO 6000 Blackwell Server Edition, for which NVIDIA has stated 117
// and 120 TFLOP/s. Missing: GB10; its rate with float32 accumulation is not stated. A wrong row only makes the printed
// utilisation wrong. The memory sizes are the nominal ones and have not been checked against datasheets; only
// `--dry-run --gpu` uses them. To correct a row, name the source.
#include <cstdint>
#include <span>
#include <string_view>

namespace kiln {

enum class Arithmetic : uint8_t { float32, tf32, bfloat16, float16, float8 };  // float32: on the CUDA cores

// TFLOP/s at the stated boost clock, with float32 accumulation, without sparsity. 0: not supported or not stated.
struct GpuPeaks {
    std::string_view name;  // cudaDeviceProp::name without "NVIDIA" and the size of the memory
    int multiprocessors;
    float float32, tf32, bfloat16, float16, float8;
    int memory_gib;  // of the smallest card with this name
};

// The GPU that a person calls by this name or by a part of it, of whole words: "A100", "RTX 4090". Its name is empty if
// the table has none. A size in the name ("A100 80GB") is its memory.
GpuPeaks find_gpu(std::string_view name);

// FLOP/s of the GPU with this cudaDeviceProp::name, or 0 if the table does not have it. The current clock has no
// influence. Laptop GPUs and slices of a GPU have names like larger GPUs, so the whole name and the number of
// multiprocessors must match.
double peak_flops(std::string_view name, int multiprocessors, Arithmetic arithmetic);

std::span<const GpuPeaks> known_gpus();

}  // namespace kiln
