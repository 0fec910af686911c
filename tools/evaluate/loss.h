#pragma once
// The loss of a model over many batches, on all ranks together.
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "cpu_reference/interface/communicator.h"
#include "cpu_reference/interface/engine.h"
#include "tokenizer/data/dataloader.h"

namespace kiln {

// The sum over the batches that `next` gives, until it gives none, or until `max_batches` if that is not 0. Every rank
// must have the same number of batches. Nothing if a stop was requested; it checks this after every batch. If
// `next` throws Error, all ranks stop, and this rank throws it again.
std::optional<LossSum> evaluate(Engine& engine, Communicator& communicator, int64_t max_batches,
                                const std::function<bool()>& stop_requested,
                                const std::function<std::optional<Batch>()>& next);

// " | 20 of 57 micro-batches" of `B` sequences, on all ranks, if mean_loss() with `max_batches` uses only a part of the
// data; else "".
std::string part_of_data(const DataLoader& loader, int B, int world, int64_t max_batches);

// The mean loss over every sequence of the loader once, in its batches of (B, T).
std::optional<double> mean_loss(Engine& engine, Communicator& communicator, int64_t max_batches,
                                const std::function<bool()>& stop_requested, DataLoader& loader, int B, int T);

}  // namespace kiln
