#pragma once
// The rate that a step's use of its GPU is held against.

namespace kiln {

struct DevicePeak {
    double flops = 0;  // per second; 0: not known
    bool measured = true;
};

// Of the current device for products of E: as its maker states it, else that of a large product, which takes some
// hundred milliseconds and as many megabytes; 0 on the emulator.
template <class E>
DevicePeak device_peak(bool tf32);

}  // namespace kiln
