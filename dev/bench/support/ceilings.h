#pragma once
// Measures how long work on a stream takes, and the best rates of a GPU: those of a copy and of a matmul.
#include <functional>
#include <string>

#include "cuda/device/handles.h"
#include "dev/bench/support/step_work.h"

namespace kiln::bench {

// Times launches with a cold L2 cache: before each launch, reads fill the cache with other data. Writes would not do,
// because the written lines go to memory while the kernel runs and are counted as its traffic.
class Timer {
public:
    explicit Timer(int launches);
    // Repeats the work without a pause for at least so long.
    void load(double seconds, const std::function<void(cudaStream_t)>& work);
    // The median of at most `launches` launches, in ms. It stops earlier when they took a second altogether.
    double median_ms(const std::function<void(cudaStream_t)>& work);

private:
    int launches_;
    Stream stream_;
    Event start_, end_;
    DeviceBuffer<float> other_, sums_;
};

// The name of the current GPU. Throws Error if there is none.
std::string gpu_name();

// Whether the current GPU's tensor cores take bfloat16; those that do also have flash attention: sm_80 and later.
bool has_bfloat16();

// The rate of a copy on the device (bytes read and written) and of a matmul of 8192^3 in bfloat16, or in float16 where
// the GPU is older than sm_80. A cool GPU is faster than it is in a long run, so the matmul is measured after two
// seconds of matmuls. small: sizes for the emulator, and a tenth of a second.
Ceilings measure_ceilings(Timer& timer, bool small);

}  // namespace kiln::bench
