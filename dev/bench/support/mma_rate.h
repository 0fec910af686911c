#pragma once
#include "dev/bench/support/ceilings.h"

namespace kiln::bench {

// The rate of mma.sync on bfloat16 fragments that stay in registers. No kernel with these instructions is faster; wgmma
// on sm_90 is about 1.5 times as fast. small: a size for the emulator.
double measure_mma_tflop_per_s(Timer& timer, bool small);

}  // namespace kiln::bench
