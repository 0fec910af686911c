#include "cpu_reference/interface/communicator.h"

#include <algorithm>
#include <barrier>
#include <cstring>

#include "cpu_reference/interface/error.h"

namespace kiln {
namespace {

class SingleCommunicator final : public Communicator {
public:
    int rank() const override { return 0; }
    int size() const override { return 1; }
    void all_reduce(float*, size_t) override {}
    void all_reduce(double*, size_t) override {}
    void reduce_scatter(const float* in, float* out, size_t n) override { copy(in, out, n); }
    void all_gather(const float* in, float* out, size_t n) override { copy(in, out, n); }
    void broadcast(void*, size_t, int root) override {
        KILN_CHECK(root == 0, "communicator: broadcast from rank ", root, " of 1");
    }
    void barrier() override {}

private:
    static void copy(const float* in, float* out, size_t n) {
        if (in != out) std::memmove(out, in, n * sizeof(float));
    }
};

// The ranks of one process share this: each stores its pointer, all wait at the barrier, and each reads the memory of
// the others.
struct Shared {
    explicit Shared(int size) : barrier(size), buffers(size) {}
    std::barrier<> barrier;
    struct Buffer {
        const void* data;
        size_t elems;
    };
    std::vector<Buffer> buffers;
};

class ThreadCommunicator final : public Communicator {
public:
    ThreadCommunicator(int rank, int size, std::shared_ptr<Shared> shared)
        : rank_(rank), size_(size), shared_(std::move(shared)) {}

    int rank() const override { return rank_; }
    int size() const override { return size_; }
    void all_reduce(float* data, size_t n) override { sum_in_place(data, n); }
    void all_reduce(double* data, size_t n) override { sum_in_place(data, n); }

    void reduce_scatter(const float* in, float* out, size_t n) override {
        exchange(in, n);
        std::vector<float> sum(n);  // out may be part of in, which other ranks still read
        add_slices(sum.data(), n * rank_, n);
        shared_->barrier.arrive_and_wait();
        std::copy(sum.begin(), sum.end(), out);
    }

    void all_gather(const float* in, float* out, size_t n) override {
        exchange(in, n);
        for (int r = 0; r < size_; r++) {
            const float* peer = static_cast<const float*>(shared_->buffers[r].data);
            if (peer != out + r * n) std::copy(peer, peer + n, out + r * n);
        }
        shared_->barrier.arrive_and_wait();
    }

    void broadcast(void* data, size_t bytes, int root) override {
        KILN_CHECK(root >= 0 && root < size_, "communicator: broadcast from rank ", root, " of ", size_);
        exchange(data, bytes);
        if (rank_ != root) std::memcpy(data, shared_->buffers[root].data, bytes);
        shared_->barrier.arrive_and_wait();
    }

    void barrier() override { shared_->barrier.arrive_and_wait(); }

private:
    // Every rank stores its buffer. Throws on every rank if the sizes differ.
    void exchange(const void* data, size_t elems) {
        shared_->buffers[rank_] = {data, elems};
        shared_->barrier.arrive_and_wait();
        const bool same =
            std::ranges::all_of(shared_->buffers, [&](const auto& b) { return b.elems == shared_->buffers[0].elems; });
        if (same) return;
        shared_->barrier.arrive_and_wait();
        throw Error(concat("communicator: rank ", rank_, " gave ", elems, " elements, rank 0 ",
                           shared_->buffers[0].elems, "; every rank must make the same calls"));
    }

    // out (n) = sum over ranks, in their order, of elements [offset, offset + n).
    template <class T>
    void add_slices(T* out, size_t offset, size_t n) const {
        for (int r = 0; r < size_; r++) {
            const T* peer = static_cast<const T*>(shared_->buffers[r].data) + offset;
            for (size_t i = 0; i < n; i++) out[i] = r == 0 ? peer[i] : out[i] + peer[i];
        }
    }

    // Each rank sums its share of the elements over all ranks, chunk by chunk, and writes the sums to all of them.
    template <class T>
    void sum_in_place(T* data, size_t n) {
        exchange(data, n);
        constexpr size_t kChunk = 4096;
        T sum[kChunk];
        const size_t begin = n * rank_ / size_, end = n * (rank_ + 1) / size_;
        for (size_t i = begin; i < end; i += kChunk) {
            const size_t count = std::min(kChunk, end - i);
            add_slices(sum, i, count);
            for (int r = 0; r < size_; r++) {
                T* peer = static_cast<T*>(const_cast<void*>(shared_->buffers[r].data));
                std::copy(sum, sum + count, peer + i);
            }
        }
        shared_->barrier.arrive_and_wait();
    }

    int rank_, size_;
    std::shared_ptr<Shared> shared_;
};

}  // namespace

std::unique_ptr<Communicator> make_single_communicator() {
    return std::make_unique<SingleCommunicator>();
}

std::vector<std::unique_ptr<Communicator>> make_thread_communicators(int size) {
    KILN_CHECK(size >= 1, "communicator: ", size, " ranks; there must be at least 1");
    auto shared = std::make_shared<Shared>(size);
    std::vector<std::unique_ptr<Communicator>> ranks;
    for (int r = 0; r < size; r++) ranks.push_back(std::make_unique<ThreadCommunicator>(r, size, shared));
    return ranks;
}

}  // namespace kiln
