#pragma once
#include "dev/bench/support/ceilings.h"

namespace kiln::bench {

// TFLOP/s of mma.sync on bfloat16 fragments that stay in registers: what a kernel on those instructions reaches at
// best, about two thirds of what wgmma does on sm_90. small: a size for the emulator.
double measure_mma_tflop_per_s(Timer& timer, bool small);

}  // namespace kiln::bench
