#include "tools/evaluate/loss.h"

#include "tools/cli/stop_signal.h"

namespace kiln {

std::optional<LossSum> evaluate(Engine& engine, Communicator& communicator,
                                const std::function<std::optional<Batch>()>& next, int64_t max_batches,
                                const std::function<bool()>& stop_requested) {
    double sums[2] = {0, 0};  // losses, tokens
    for (int64_t i = 0; max_batches == 0 || i < max_batches; i++) {
        const std::optional<Batch> batch = next();
        if (!batch) break;
        const LossSum loss = engine.evaluate(*batch);
        sums[0] += loss.sum;
        sums[1] += double(loss.tokens);
        if (stop_agreed(communicator, stop_requested)) return std::nullopt;
    }
    communicator.all_reduce(sums, 2);
    return LossSum{sums[0], int64_t(sums[1])};
}

}  // namespace kiln
