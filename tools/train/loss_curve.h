#pragma once
// The loss curve of a run as SVG, from its metrics.jsonl or from memory.
#include <filesystem>
#include <string>
#include <vector>

namespace kiln {

struct LossPoint {
    double step, loss;
};

// In the order in which they were logged; finite losses only.
struct LossCurve {
    std::vector<LossPoint> train = {}, val = {};
    std::string missing = {};  // why earlier losses are not in it; empty: it is complete

    // Beyond kMaxPoints, each point is the mean of neighbouring losses, so that the memory is bounded.
    static constexpr size_t kMaxPoints = 4000;
    void add_train(const LossPoint& point);

    size_t losses_a_point = 1, losses_in_last = 0;  // of `train`
};

// Throws Error if there is no metrics.jsonl, if a line is not an object with a step from 0 to 2^53, or if a loss is
// beyond the range of a float. A last line without a newline, which a killed run leaves, is ignored.
LossCurve read_loss_curve(const std::filesystem::path& run);

// The name of the run's directory, shortened if it is too long for a title: "x" for "runs/x/", and for "." the name of
// the current directory.
std::string run_title(const std::filesystem::path& run);

std::string loss_svg(const LossCurve& curve, const std::string& title);

}  // namespace kiln
