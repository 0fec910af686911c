#pragma once
// The z-score of a value among the last 128 values, which llm.c also uses to skip updates.
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace kiln {

class OutlierWindow {
public:
    static constexpr size_t kSize = 128;

    OutlierWindow() = default;
    // Continues from what values() gave.
    explicit OutlierWindow(std::vector<double> values) : values_(std::move(values)) {
        if (values_.size() > kSize) values_.erase(values_.begin(), values_.end() - kSize);
    }

    // Adds `value` to the window and returns its z-score in it: NaN until the window is full, 0 if all values are
    // equal. A value that is not finite is not added, because all z-scores would be NaN for 128 steps; its own z-score
    // is NaN.
    double add(double value) {
        constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
        if (!std::isfinite(value)) return kUnknown;
        const bool was_full = values_.size() == kSize;
        if (was_full) values_.erase(values_.begin());
        values_.push_back(value);
        if (!was_full) return kUnknown;
        // Running sums would drift, and a checkpoint would have to store them. New sums cost little compared to a step.
        double mean = 0, variance = 0;
        for (const double v : values_) mean += v / double(kSize);
        for (const double v : values_) variance += (v - mean) * (v - mean) / double(kSize);
        return variance > 0 ? (value - mean) / std::sqrt(variance) : 0;
    }

    const std::vector<double>& values() const { return values_; }  // oldest first

private:
    std::vector<double> values_;
};

}  // namespace kiln
