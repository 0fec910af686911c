// Ranks as processes that communicate by MPI. If MPI is not installed, no_mpi.cpp is compiled instead.
#define OMPI_SKIP_MPICXX  // leaves out Open MPI's C++ interface, which was removed from the MPI standard
#include <mpi.h>

#include <algorithm>
#include <exception>

#include "cpu_reference/interface/communicator.h"
#include "cpu_reference/interface/error.h"

namespace kiln {
namespace {

constexpr size_t kMostElems = size_t(1) << 30;  // in one call, since MPI's counts are int

void check(int status, int rank, const char* call) {
    if (status == MPI_SUCCESS) return;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(status, text, &length);
    throw Error(
        concat("rank ", rank, ": ", call, " failed: ", text, "; see the messages of mpirun and the other ranks"));
}

class MpiCommunicator final : public Communicator {
public:
    MpiCommunicator() {
        int provided = 0;
        KILN_CHECK(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) == MPI_SUCCESS,
                   "MPI cannot be initialised; start the program with mpirun");
        MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
        MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
        MPI_Comm_size(MPI_COMM_WORLD, &size_);
    }
    MpiCommunicator(const MpiCommunicator&) = delete;
    // After an exception the other ranks may be in another call, and MPI_Finalize would wait for them. If this process
    // ends without MPI_Finalize, mpirun ends the others at once.
    ~MpiCommunicator() override {
        if (std::uncaught_exceptions() == 0) MPI_Finalize();
    }

    int rank() const override { return rank_; }
    int size() const override { return size_; }
    void all_reduce(float* data, size_t n) override { sum(data, n, MPI_FLOAT); }
    void all_reduce(double* data, size_t n) override { sum(data, n, MPI_DOUBLE); }

    void reduce_scatter(const float* in, float* out, size_t n) override {
        std::vector<float> each(std::min(n, kMostElems) * size_);
        // MPI needs the parts of all ranks one after the other, and an output that does not overlap with the input.
        std::vector<float> mine(n);
        for_each_part(n, [&](size_t begin, size_t count) {
            for (int r = 0; r < size_; r++) std::copy_n(in + r * n + begin, count, each.data() + r * count);
            check(MPI_Reduce_scatter_block(each.data(), mine.data() + begin, int(count), MPI_FLOAT, MPI_SUM,
                                           MPI_COMM_WORLD),
                  rank_, "MPI_Reduce_scatter_block");
        });
        std::ranges::copy(mine, out);
    }

    void all_gather(const float* in, float* out, size_t n) override {
        for (int r = 0; r < size_; r++) {
            if (r == rank_ && in != out + r * n) std::copy_n(in, n, out + r * n);
            broadcast(out + r * n, n * sizeof(float), r);
        }
    }

    void broadcast(void* data, size_t bytes, int root) override {
        KILN_CHECK(root >= 0 && root < size_, "communicator: broadcast from rank ", root, " of ", size_);
        for_each_part(bytes, [&](size_t begin, size_t count) {
            check(MPI_Bcast(static_cast<char*>(data) + begin, int(count), MPI_BYTE, root, MPI_COMM_WORLD), rank_,
                  "MPI_Bcast");
        });
    }

    void barrier() override { check(MPI_Barrier(MPI_COMM_WORLD), rank_, "MPI_Barrier"); }

private:
    template <class Work>
    static void for_each_part(size_t n, Work work) {
        for (size_t begin = 0; begin < n; begin += kMostElems) work(begin, std::min(kMostElems, n - begin));
    }
    template <class T>
    void sum(T* data, size_t n, MPI_Datatype type) {
        for_each_part(n, [&](size_t begin, size_t count) {
            check(MPI_Allreduce(MPI_IN_PLACE, data + begin, int(count), type, MPI_SUM, MPI_COMM_WORLD), rank_,
                  "MPI_Allreduce");
        });
    }

    int rank_ = 0, size_ = 1;
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator() {
    return std::make_unique<MpiCommunicator>();
}

bool built_with_mpi() {
    return true;
}

}  // namespace kiln
