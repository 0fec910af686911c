#include "tools/train/validation.h"

#include <algorithm>

#include "tools/evaluate/loss.h"

namespace kiln {

Validation::Validation(const TrainPlan& plan, Communicator& communicator)
    : options_(plan.options), communicator_(communicator), loader_(val_loader_options(plan, communicator)) {}

std::optional<double> Validation::loss(Engine& engine, const std::function<bool()>& stop_requested) {
    loader_.seek(0);
    const auto sum = evaluate(
        engine, communicator_, [&] { return next(); }, options_.val_max_batches, stop_requested);
    if (!sum) return std::nullopt;
    return sum->sum / double(sum->tokens);
}

std::optional<Batch> Validation::next() {
    const uint64_t N = loader_.num_sequences();
    if (loader_.position() >= N) return std::nullopt;
    const DataLoader::Rows rows = loader_.next();
    // The loader begins anew after the last sequence. The sequences that it gives a second time are ignored.
    const int B = options_.B, T = options_.T;
    const uint64_t fresh = rows.first_sample < N ? std::min<uint64_t>(B, N - rows.first_sample) : 0;
    targets_.assign(size_t(B) * T, -1);
    std::copy_n(rows.targets, fresh * T, targets_.begin());
    return Batch{.tokens = rows.tokens, .targets = targets_.data()};
}

}  // namespace kiln
