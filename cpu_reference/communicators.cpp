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

// What the ranks of one process share: each lays its pointer down, all meet, each reads its peers' memory.
struct Meeting {
    explicit Meeting(int size) : barrier(size), buffers(size) {}
    std::barrier<> barrier;
    struct Buffer {
        const void* data;
        size_t elems;
    };
    std::vector<Buffer> buffers;
};

class ThreadCommunicator final : public Communicator {
public:
    ThreadCommunicator(int rank, int size, std::shared_ptr<Meeting> meeting)
        : rank_(rank), size_(size), meeting_(std::move(meeting)) {}

    int rank() const override { return rank_; }
    int size() const override { return size_; }
    void all_reduce(float* data, size_t n) override { sum_in_place(data, n); }
    void all_reduce(double* data, size_t n) override { sum_in_place(data, n); }

    void reduce_scatter(const float* in, float* out, size_t n) override {
        meet(in, n);
        std::vector<float> sum(n);  // out may be part of in, which peers still read
        add_slices(sum.data(), n * rank_, n);
        meeting_->barrier.arrive_and_wait();
        std::copy(sum.begin(), sum.end(), out);
    }

    void all_gather(const float* in, float* out, size_t n) override {
        meet(in, n);
        for (int r = 0; r < size_; r++) {
            const float* peer = static_cast<const float*>(meeting_->buffers[r].data);
            if (peer != out + r * n) std::copy(peer, peer + n, out + r * n);
        }
        meeting_->barrier.arrive_and_wait();
    }

    void broadcast(void* data, size_t bytes, int root) override {
        KILN_CHECK(root >= 0 && root < size_, "communicator: broadcast from rank ", root, " of ", size_);
        meet(data, bytes);
        if (rank_ != root) std::memcpy(data, meeting_->buffers[root].data, bytes);
        meeting_->barrier.arrive_and_wait();
    }

    void barrier() override { meeting_->barrier.arrive_and_wait(); }

private:
    // All lay down their buffers; throws on every rank if they are not of one size.
    void meet(const void* data, size_t elems) {
        meeting_->buffers[rank_] = {data, elems};
        meeting_->barrier.arrive_and_wait();
        const bool same = std::ranges::all_of(meeting_->buffers,
                                              [&](const auto& b) { return b.elems == meeting_->buffers[0].elems; });
        if (same) return;
        meeting_->barrier.arrive_and_wait();
        throw Error(concat("communicator: rank ", rank_, " gave ", elems, " elements, rank 0 ",
                           meeting_->buffers[0].elems, "; every rank must make the same calls"));
    }

    // out (n) = sum over ranks, in their order, of elements [offset, offset + n).
    template <class T>
    void add_slices(T* out, size_t offset, size_t n) const {
        for (int r = 0; r < size_; r++) {
            const T* peer = static_cast<const T*>(meeting_->buffers[r].data) + offset;
            for (size_t i = 0; i < n; i++) out[i] = r == 0 ? peer[i] : out[i] + peer[i];
        }
    }

    // Each rank sums its share of the elements over all ranks and writes it to all of them, a piece at a time.
    template <class T>
    void sum_in_place(T* data, size_t n) {
        meet(data, n);
        constexpr size_t kPiece = 4096;
        T sum[kPiece];
        const size_t begin = n * rank_ / size_, end = n * (rank_ + 1) / size_;
        for (size_t i = begin; i < end; i += kPiece) {
            const size_t count = std::min(kPiece, end - i);
            add_slices(sum, i, count);
            for (int r = 0; r < size_; r++) {
                T* peer = static_cast<T*>(const_cast<void*>(meeting_->buffers[r].data));
                std::copy(sum, sum + count, peer + i);
            }
        }
        meeting_->barrier.arrive_and_wait();
    }

    int rank_, size_;
    std::shared_ptr<Meeting> meeting_;
};

}  // namespace

std::unique_ptr<Communicator> make_single_communicator() {
    return std::make_unique<SingleCommunicator>();
}

std::vector<std::unique_ptr<Communicator>> make_thread_communicators(int size) {
    KILN_CHECK(size >= 1, "communicator: ", size, " ranks; there must be at least 1");
    auto meeting = std::make_shared<Meeting>(size);
    std::vector<std::unique_ptr<Communicator>> ranks;
    for (int r = 0; r < size; r++) ranks.push_back(std::make_unique<ThreadCommunicator>(r, size, meeting));
    return ranks;
}

}  // namespace kiln
