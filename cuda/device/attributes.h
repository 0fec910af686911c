#pragma once
// What launchers ask about the current device.
#include "cuda/device/cuda_check.h"

namespace kiln {

// The answer of ask(device), a lambda without captures, for the current device. A thread of the host asks once, and
// again if its device has changed.
template <class Ask>
auto once_per_device(Ask ask) {
    thread_local int known = -1;
    thread_local decltype(ask(0)) answer;
    int device = 0;
    CUDA_CHECK(cudaGetDevice(&device));
    if (device != known) answer = ask(device), known = device;
    return answer;
}

template <cudaDeviceAttr kAttribute>
int device_attribute() {
    return once_per_device([](int device) {
        int value = 0;
        CUDA_CHECK(cudaDeviceGetAttribute(&value, kAttribute, device));
        return value;
    });
}

inline int multiprocessors() {
    return device_attribute<cudaDevAttrMultiProcessorCount>();
}
// Times 10: 80 is sm_80.
inline int compute_capability() {
    return 10 * device_attribute<cudaDevAttrComputeCapabilityMajor>() +
           device_attribute<cudaDevAttrComputeCapabilityMinor>();
}
// The most shared memory that a block can have, static and dynamic.
inline int max_shared_bytes() {
    return device_attribute<cudaDevAttrMaxSharedMemoryPerBlockOptin>();
}
// How many blocks with this much shared memory, static and dynamic, a multiprocessor has room for.
inline int blocks_with_shared_bytes(int bytes) {
    constexpr int kReserved = 1024;  // by the driver, of each block; none on sm_75
    return device_attribute<cudaDevAttrMaxSharedMemoryPerMultiprocessor>() / (bytes + kReserved);
}

}  // namespace kiln
