#pragma once
// CUDA_CHECK(call) throws kiln::Error with the file, the line, the call and its CUDA error.
#include <cuda_runtime.h>

#include "cpu_reference/interface/error.h"

#define CUDA_CHECK(call)                                                                                              \
    do {                                                                                                              \
        if (const cudaError_t kiln_status = (call); kiln_status != cudaSuccess) {                                     \
            throw kiln::Error(kiln::concat(__FILE__, ":", __LINE__, ": ", #call, ": ", cudaGetErrorName(kiln_status), \
                                           ": ", cudaGetErrorString(kiln_status)));                                   \
        }                                                                                                             \
    } while (false)
