#pragma once
// The interface between scheduler.cpp, which runs grids, and the emulated CUDA libraries, which decide when.
#include <stdexcept>
#include <string>

#include "dev/emulator/core/simt.h"

namespace simt {

// A launch did something wrong, or the real library would refuse a call. `what()` is the whole report.
class Failure : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

// The schedule. With 0 warps run in ascending order, each as far as it can, and streams do their work at once. Any
// other seed shuffles warps, lanes, blocks, and the moments at which copies land and streams continue. The first seed
// is SIMT_SEED of the environment, or 0.
void set_seed(unsigned seed);
unsigned seed();
// A number in the environment, or `otherwise`.
unsigned number_from_environment(const char* name, unsigned otherwise);
// The seed that chooses the errors of approximations; 0: there are none. The first value is SIMT_ERRORS of the
// environment, or 1. All schedules have the same errors, as all runs on one chip have.
void set_errors(unsigned errors);

// How many host threads run the blocks of a grid: by default one for each core, or one under a sanitizer.
void set_workers(unsigned workers);

// The observer is called with each launch before it is queued; null: no observer.
void set_launch_observer(void (*observer)(const Launch&));
// Launches are checked, but kernels do not run.
void set_launch_only(bool only);
// What the host has queued so far: launches of kernels, matmuls and graphs, copies and fills; and how many bytes copies
// brought to the host.
struct Traffic {
    uint64_t queued = 0, bytes_to_host = 0;
};
Traffic traffic();
// The clock that events read, in milliseconds; a test may replace it.
std::function<double()>& event_clock();
// Runs all blocks. Throws Failure.
void run_grid(const Launch& config, const std::function<void()>& thread_body);

// Called before and after every block: the state of TMA and wgmma. end_ reports operations that are not complete.
void begin_tma(int threads);
void end_tma();
void begin_wgmma(int threads);
void end_wgmma();

// Queues `work` on a stream (null: the legacy stream, which other streams do not wait for). If work runs now and
// throws, this throws.
void enqueue(cudaStream_t stream, std::function<void()> work);
// With SIMT_TRACE=FILE, FILE.PID has a line for each kernel and collective, in the order in which the device ran them.
void trace(const std::function<std::string()>& what);
// For calls that are not allowed while a stream is captured. True if one is: its capture then fails.
bool breaks_capture();
// What a call of the runtime returns: `error`, or that of a lost device. An error is also what cudaGetLastError returns
// next.
cudaError_t returned(cudaError_t error);
// From now on every call fails with `error`, as after a kernel's illegal access. cudaSuccess: the device works again.
void lose_device(cudaError_t error);
// How many bytes of an allocation begin at p; 0 if p is in none of this kind. pinned: memory of the host.
size_t bytes_from(const void* p, bool pinned);
// How much of the device's memory other processes use.
void set_foreign_bytes(size_t bytes);

}  // namespace simt
