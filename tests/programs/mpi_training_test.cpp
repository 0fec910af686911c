// train_gpt2 as the processes that mpirun starts, against one process.
#include <gtest/gtest.h>

#include <algorithm>

#include "cpu_reference/interface/communicator.h"
#include "cpu_reference/interface/error.h"
#include "tests/support/tiny_models.h"
#include "tests/support/train_program.h"
#include "tools/train/loss_curve.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

class MpiTraining : public TrainProgram {
protected:
    // The losses of steps of eight sequences, by `processes` that compute B sequences at once.
    std::vector<double> losses(const std::string& model, int processes, int B) const {
        const fs::path run = directory_ / concat("run-", processes, "-", B);
        const Args program{program_path("train_gpt2"),
                           "-i",
                           data(),
                           "-e",
                           model,
                           "-t",
                           "15",
                           "-d",
                           "120",
                           "-b",
                           std::to_string(B),
                           "-x",
                           "6",
                           "-v",
                           "3",
                           "-m",
                           "0",
                           "-l",
                           "0.01",
                           "-o",
                           run,
                           "-y",
                           "0"};
        // A container has one user, few cores and no tool that starts processes on other machines.
        const Args start{"OMP_NUM_THREADS=1",
                         "OMPI_ALLOW_RUN_AS_ROOT=1",
                         "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
                         "OMPI_MCA_plm=isolated",
                         "OMPI_MCA_rmaps_base_oversubscribe=1",
                         "OMPI_MCA_btl_vader_single_copy_mechanism=none"};
        const Args mpirun = processes > 1 ? Args{"mpirun", "-np", std::to_string(processes)} : Args{};
        const Finished ended = run_program("/usr/bin/env", start + mpirun + program);
        EXPECT_EQ(ended.code, 0) << ended.out << ended.err;
        std::vector<double> all;
        const LossCurve curve = read_loss_curve(run);
        for (const LossPoint& point : curve.train) all.push_back(point.loss);
        for (const LossPoint& point : curve.val) all.push_back(point.loss);
        EXPECT_EQ(all.size(), 6u + 3u);
        fs::remove_all(run);
        return all;
    }
};

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
    EXPECT_EQ(a.size(), b.size());
    double largest = 0;
    for (size_t i = 0; i < std::min(a.size(), b.size()); i++) largest = std::max(largest, std::abs(a[i] - b[i]));
    return largest;
}

TEST_F(MpiTraining, any_number_of_processes_has_the_same_losses) {
    if (!built_with_mpi()) GTEST_SKIP() << "built without MPI";
    for (const testing::TinyModel& model : testing::odd_models()) {
        SCOPED_TRACE(model.name);
        const std::vector<double> whole = losses(model.descriptor, 1, 8), cut = losses(model.descriptor, 1, 1);
        // Processes may change the losses as much as micro-batches do, by rounding.
        const double tolerance = std::max(1e-6, 4 * largest_difference(whole, cut));
        EXPECT_LT(tolerance, 1e-3);
        EXPECT_GT(std::abs(whole[0] - whole[5]), 1e-2);  // it learns, so that equal losses say something
        for (const int processes : {2, 4}) {
            EXPECT_LE(largest_difference(losses(model.descriptor, processes, 4 / processes), whole), tolerance);
        }
    }
}

}  // namespace
}  // namespace kiln
