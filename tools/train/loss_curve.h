#pragma once
// A run's loss curve as SVG, from its metrics.jsonl.
#include <filesystem>
#include <string>
#include <vector>

namespace kiln {

struct LossPoint {
    double step, loss;
};

struct LossCurve {
    std::vector<LossPoint> train, val;  // by step; finite losses only
};

// Throws Error if there is no metrics.jsonl, naming the line that is not JSON. A last line without its newline, which a
// killed run leaves, is passed over.
LossCurve read_loss_curve(const std::filesystem::path& run);

std::string loss_svg(const LossCurve& curve, const std::string& title);

}  // namespace kiln
