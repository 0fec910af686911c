#pragma once
// Communication between the ranks of a data-parallel program. Each transport has its own implementation.
#include <cstddef>
#include <memory>
#include <vector>

namespace kiln {

// The implementation says whether buffers are in host or device memory. Sums have a fixed order, and every rank gets
// the same bits.
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
    // While the result lives, this rank may wait for others outside of these calls: for NCCL. What watches the ranks
    // then does not take it for the one that hangs.
    virtual std::shared_ptr<void> waiting() { return nullptr; }
};

std::unique_ptr<Communicator> make_single_communicator();

// The processes that mpirun started, with buffers in host memory; at most once in a process. Throws Error if this build
// is without MPI, or if a call fails. If it is destroyed by an exception, mpirun ends the other ranks.
std::unique_ptr<Communicator> make_mpi_communicator();
bool built_with_mpi();

// `size` ranks in one process, one thread each, with buffers in host memory. Element i is for rank i; only the thread
// of that rank may call it. Calls block, and every rank must make the same calls.
std::vector<std::unique_ptr<Communicator>> make_thread_communicators(int size);

}  // namespace kiln
