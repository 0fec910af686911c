#pragma once
// What a data-parallel program needs of its peers. One implementation a transport.
#include <cstddef>
#include <memory>
#include <vector>

namespace kiln {

// Buffers are host or device memory, as the implementation says. Sums have a fixed order: every rank gets the same
// bits.
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
};

std::unique_ptr<Communicator> make_single_communicator();

// `size` ranks in one process, one thread each, over shared host memory. Element i is rank i's; call it from that
// rank's thread only. Blocking; every rank must make the same calls.
std::vector<std::unique_ptr<Communicator>> make_thread_communicators(int size);

}  // namespace kiln
