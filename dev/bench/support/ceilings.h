#pragma once
// Times of what is queued on a stream, and what a GPU reaches at best: a copy, and a matrix product.
#include <functional>
#include <string>

#include "cuda/device/handles.h"
#include "dev/bench/support/step_work.h"

namespace kiln::bench {

// Times launches that each find the cache filled with something else. It is filled by reading: lines that were written
// would have to go to memory while the kernel runs, and be counted as its own.
class Timer {
public:
    explicit Timer(int launches);
    // The median of one launch, in ms: of at most `launches`, or of a second's worth.
    double median_ms(const std::function<void(cudaStream_t)>& work);

private:
    int launches_;
    Stream stream_;
    Event start_, end_;
    DeviceBuffer<float> other_, sums_;
};

// The current GPU's name. Throws Error where there is none.
std::string gpu_name();
// main() of a benchmark: what `run` throws becomes a line with the program's name, and 1.
int run_benchmark(const char* program, int (*run)(int, char**), int argc, char** argv);

// Bytes read and written by a device's copy; a bfloat16 product of 8192^3. small: sizes for the emulator.
Ceilings measure_ceilings(Timer& timer, bool small);

}  // namespace kiln::bench
