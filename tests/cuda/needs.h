#pragma once
// Tests that need a newer GPU are skipped with the reason. Without that a kernel would trap there, and after a trap
// every later test of the process fails.
#include <gtest/gtest.h>

#include "cuda/device/cuda_check.h"

namespace kiln::test {

// The compute capability of the current device, times 10.
inline int capability() {
    int device = 0, major = 0, minor = 0;
    CUDA_CHECK(cudaGetDevice(&device));
    CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
    return 10 * major + minor;
}

}  // namespace kiln::test

#define KILN_SKIP_BELOW(needed)                                                                   \
    do {                                                                                          \
        if (const int has = kiln::test::capability(); has < (needed)) {                           \
            GTEST_SKIP() << "skipped: needs sm_" << (needed) << ", but the device is sm_" << has; \
        }                                                                                         \
    } while (false)
