#pragma once
// The peak rate of the current GPU. A step's utilisation is relative to it.

namespace kiln {

struct DevicePeak {
    double flops = 0;  // per second; 0: unknown
    bool measured = true;
};

// The rate of matmuls in element type E: from the table of gpu_peaks.h, or else measured with a large matmul, which
// takes about 100 ms and 100 MB. 0 on the emulator.
template <class E>
DevicePeak device_peak(bool tf32);

}  // namespace kiln
