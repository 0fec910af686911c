#include "tools/evaluate/loss.h"

#include <algorithm>
#include <exception>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "tools/cli/stop_signal.h"

namespace kiln {

std::optional<LossSum> evaluate(Engine& engine, Communicator& communicator, int64_t max_batches,
                                const std::function<bool()>& stop_requested,
                                const std::function<std::optional<Batch>()>& next) {
    double sums[2] = {0, 0};  // losses, tokens
    for (int64_t i = 0; max_batches == 0 || i < max_batches; i++) {
        std::optional<Batch> batch;
        std::exception_ptr failed;  // thrown when all ranks have stopped
        try {
            batch = next();
        } catch (const Error&) {
            failed = std::current_exception();
        }
        if (!batch && !failed) break;
        if (batch) {
            const LossSum loss = engine.evaluate(*batch);
            sums[0] += loss.sum;
            sums[1] += double(loss.tokens);
        }
        if (stop_agreed(communicator, [&] { return failed || (stop_requested && stop_requested()); })) {
            if (failed) std::rethrow_exception(failed);
            return std::nullopt;
        }
    }
    communicator.all_reduce(sums, 2);
    return LossSum{sums[0], int64_t(sums[1])};
}

std::string part_of_data(const DataLoader& loader, int B, int world, int64_t max_batches) {
    const auto a_batch = int64_t(B) * world, all = (int64_t(loader.num_sequences()) + a_batch - 1) / a_batch;
    if (max_batches == 0 || max_batches >= all) return "";
    return concat(" | ", max_batches, " of ", all, " micro-batches");
}

std::optional<double> mean_loss(Engine& engine, Communicator& communicator, int64_t max_batches,
                                const std::function<bool()>& stop_requested, DataLoader& loader, int B, int T) {
    const uint64_t N = loader.num_sequences();
    std::vector<int> targets;
    loader.seek(0);
    const auto next = [&]() -> std::optional<Batch> {
        if (loader.position() >= N) return std::nullopt;
        const DataLoader::Rows rows = loader.next();
        // After the last sequence the loader starts again. Sequences that it gives a second time are ignored.
        const uint64_t fresh = rows.first_sample < N ? std::min<uint64_t>(B, N - rows.first_sample) : 0;
        targets.assign(size_t(B) * T, -1);
        std::copy_n(rows.targets, fresh * T, targets.begin());
        return Batch{.tokens = rows.tokens, .targets = targets.data()};
    };
    const auto sum = evaluate(engine, communicator, max_batches, stop_requested, next);
    if (!sum) return std::nullopt;
    return sum->sum / double(sum->tokens);
}

}  // namespace kiln
