#pragma once
// The peak rate of the current GPU. A step's utilisation is relative to it.

namespace kiln {

struct DevicePeak {
    double flops = 0;  // per second; 0: unknown
    bool measured = true;
};

// The rate of matmuls in element type E: from the table of gpu_peaks.h, or else measured with measured_flops. 0 on the
// emulator.
template <class E>
DevicePeak device_peak(bool tf32);

// Of matmuls of `size` x `size` random numbers: the best of 8, after those that choose the algorithm. With the usual
// size there are about 20 of 137 GFLOP: 50 ms at 60 TFLOP/s, half a second at 6. They take 67 MB in 16 bits or 134 MB
// in float32, and a workspace.
template <class E>
double measured_flops(bool tf32, int size = 4096);

}  // namespace kiln
