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

// The rate of a copy on the device (bytes read and written) and of a bfloat16 matmul of 8192^3. small: sizes for the
// emulator.
Ceilings measure_ceilings(Timer& timer, bool small);

}  // namespace kiln::bench
