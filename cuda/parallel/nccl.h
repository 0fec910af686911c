#pragma once
// NCCL, NVIDIA's library for communication between GPUs. It is opened when a communicator is made, so the same program
// runs on machines with and without it. Outside of this folder, only the emulator's NCCL and its test include this.
#if __has_include(<nccl.h>)
#include <nccl.h>
#else
#include "cuda/parallel/nccl_declarations.h"
#endif

// M(NAME) for each function that Kiln calls. NCCL 2.14 has all of them.
#define KILN_NCCL_FUNCTIONS(M) \
    M(ncclGetVersion)          \
    M(ncclGetUniqueId)         \
    M(ncclCommInitRank)        \
    M(ncclCommFinalize)        \
    M(ncclCommDestroy)         \
    M(ncclCommAbort)           \
    M(ncclGetErrorString)      \
    M(ncclGetLastError)        \
    M(ncclCommGetAsyncError)   \
    M(ncclAllReduce)           \
    M(ncclReduceScatter)       \
    M(ncclAllGather)           \
    M(ncclBroadcast)           \
    M(ncclGroupStart)          \
    M(ncclGroupEnd)

namespace kiln {

struct Nccl {
    // Opens the library and never closes it, since its threads may outlive a communicator. Throws an Error that says
    // what to install.
    explicit Nccl(const char* library);

#define KILN_NCCL_POINTER(name) decltype(&::name) name = nullptr;
    KILN_NCCL_FUNCTIONS(KILN_NCCL_POINTER)
#undef KILN_NCCL_POINTER
};

}  // namespace kiln
