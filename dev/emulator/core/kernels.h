#pragma once
// What the emulator knows of kernels, and which launches the architecture that it plays refuses.
// libraries/cuda_kernels.cpp implements this.
#include <optional>
#include <string>
#include <vector>

#include "dev/emulator/core/simt.h"

namespace simt {

// What ptxas gave a kernel on the architecture, by dev/bench/kernel_resources.txt. shared_bytes are static, of a block;
// the others are of a thread.
struct Resources {
    int registers, shared_bytes, spilled_bytes;
};
// Nothing: the table does not have the kernel. Kernels of tests are not in it.
std::optional<Resources> resources_of(const void* kernel);
std::vector<std::string> kernels_of_table();
// How many blocks of the kernel a multiprocessor holds at once; 0: a block is too large.
int blocks_of_multiprocessor(const Resources& kernel, int threads, size_t dynamic_bytes);

// As in the table: without namespaces and parameters, and with the numbers of enumerators.
std::string kernel_name(const void* kernel);
// Throws Failure if the architecture refuses the launch.
void check_launch(const Launch& launch);
// A kernel is loaded by its first launch, or the first call that reads or sets its attributes. Returns whether it was
// loaded before.
bool load_kernel(const void* kernel);
// A block of the launch has this many bytes of static shared memory. Returns why it cannot have them; empty: it can.
std::string note_static_shared(const Launch& launch, size_t bytes);

}  // namespace simt
