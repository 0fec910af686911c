#pragma once
// Notices that the loss has risen and stays high: the learning rate is too high.
#include <algorithm>
#include <cmath>

namespace kiln {

class RisenLoss {
public:
    static constexpr int kSteps = 100;

    // V: the size of the vocabulary. Uniform predictions give a loss of ln V; a new model has a little more.
    explicit RisenLoss(int V) : limit_(std::log(double(V))) {}

    // True at the 100th loss in a row that is above ln V and above the first loss.
    bool add(double loss) {
        if (first_) limit_ = std::max(limit_, loss);  // ln V if the loss is NaN
        first_ = false;
        above_ = loss > limit_ ? above_ + 1 : 0;
        return above_ == kSteps;
    }

private:
    double limit_;
    bool first_ = true;
    int above_ = 0;
};

}  // namespace kiln
