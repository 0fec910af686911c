#pragma once
// CUDA_CHECK(call) throws kiln::Error with the file, the line, the call and its CUDA error.
#include <cuda_runtime.h>

#include "cpu_reference/interface/error.h"

namespace kiln {

// The status of a call whose failure is dealt with here. A failed call is also the thread's last error, which the next
// launch would report as its own.
inline cudaError_t taken(cudaError_t status) {
    if (status != cudaSuccess) (void)cudaGetLastError();
    return status;
}

}  // namespace kiln

#define CUDA_CHECK(call)                                                                                              \
    do {                                                                                                              \
        if (const cudaError_t kiln_status = kiln::taken(call); kiln_status != cudaSuccess) {                          \
            throw kiln::Error(kiln::concat(__FILE__, ":", __LINE__, ": ", #call, ": ", cudaGetErrorName(kiln_status), \
                                           ": ", cudaGetErrorString(kiln_status)));                                   \
        }                                                                                                             \
    } while (false)
