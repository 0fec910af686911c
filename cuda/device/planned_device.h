#pragma once
// What sizes of scratch memory depend on, also where there is no GPU: `--dry-run` plans for one that is elsewhere.
#include "cuda/device/attributes.h"

namespace kiln {

// multiprocessors(), or without a GPU about as many as the largest one has.
inline int multiprocessors_to_plan_for() {
    thread_local const bool none = [] {
        int count = 0;
        return taken(cudaGetDeviceCount(&count)) != cudaSuccess || count == 0;
    }();
    return none ? 192 : multiprocessors();
}

}  // namespace kiln
