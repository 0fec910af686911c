#pragma once
// Between scheduler.cpp, which runs grids, and the stand-ins for the CUDA libraries, which decide when.
#include <stdexcept>
#include <string>

#include "dev/emulator/core/simt.h"

namespace simt {

// What a launch did wrong, or a call that the real library would refuse. `what()` is the whole report.
class Failure : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// The schedule: 0 is ascending, each warp running as far as it can, everything on a stream at once. Any other number
// shuffles warps, lanes, blocks, and the moments at which copies land and streams go on. At first: the environment's
// SIMT_SEED, or 0.
void set_seed(unsigned seed);
unsigned seed();

// How many threads of the host run a grid's blocks: at first as many as it has cores. One under a sanitizer.
void set_workers(unsigned workers);

std::string kernel_name(const char* pretty_function);
// Called with each launch from now on, before it is queued; null: nothing is. What a report is made of.
void set_launch_observer(void (*observer)(const Launch&));
// Runs all blocks. Throws Failure.
void run_grid(const Launch& config, const std::function<void()>& thread_body);

// Around every block: what TMA and wgmma keep for it. end_ reports what is still under way.
void begin_tma(int threads);
void end_tma();
void begin_wgmma(int threads);
void end_wgmma();

// Queues `work` on a stream (null: the default stream, after everything else). Throws what the work threw that ran by
// now.
void enqueue(cudaStream_t stream, std::function<void()> work);
// Dynamic shared memory that a kernel was allowed with cudaFuncSetAttribute.
size_t shared_bytes_allowed(const void* kernel);

}  // namespace simt
