#pragma once
// Communication between the ranks of a data-parallel program: between threads, by MPI or, in tools/launch, by TCP.
// Ranks on GPUs also have a DeviceCommunicator (cuda/parallel).
#include <cstddef>
#include <memory>
#include <vector>

namespace kiln {

// Buffers are in host memory. A call returns when its result is there. Every rank must make the same calls. Sums have a
// fixed order, and every rank gets the same bits.
class Communicator {
public:
    virtual ~Communicator() = default;
    virtual int rank() const = 0;
    virtual int size() const = 0;
    virtual void all_reduce(float* data, size_t n) = 0;   // (n) summed in place on every rank
    virtual void all_reduce(double* data, size_t n) = 0;  // (n)
    virtual void reduce_scatter(const float* in, float* out, size_t n_per_rank) = 0;  // in (size, n), out (n)
    virtual void all_gather(const float* in, float* out, size_t n_per_rank) = 0;      // in (n), out (size, n)
    virtual void broadcast(void* data, size_t bytes, int root) = 0;
    virtual void barrier() = 0;
    // While the returned object exists, this rank may wait for others outside of these calls, for example in NCCL. The
    // watch (tools/launch/watch.h) then does not take this rank for the one that hangs.
    virtual std::shared_ptr<void> waiting() { return nullptr; }
};

std::unique_ptr<Communicator> make_single_communicator();

// The ranks are the processes that mpirun started. A process may call it once. Throws Error if the program was built
// without MPI, or if a call of MPI fails. If an exception destroys the communicator, mpirun ends the other ranks.
std::unique_ptr<Communicator> make_mpi_communicator();
bool built_with_mpi();

// `size` ranks in one process, with one thread each. Element i is for rank i; only the thread of that rank may call it.
std::vector<std::unique_ptr<Communicator>> make_thread_communicators(int size);

}  // namespace kiln
