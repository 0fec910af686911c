#include "tools/train/rank_plan.h"

#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "cpu_reference/interface/text.h"
#include "tokenizer/io/file.h"
#include "tools/launch/socket.h"

namespace kiln {

namespace {

// The value of each rank, by rank.
std::vector<double> gathered(double value, Communicator& ranks) {
    std::vector<double> all(size_t(ranks.size()));
    all[size_t(ranks.rank())] = value;
    ranks.all_reduce(all.data(), all.size());
    return all;
}

double least(double value, Communicator& ranks) {
    return std::ranges::min(gathered(value, ranks));
}

}  // namespace

std::string shared_text(std::string text, int from, Communicator& ranks) {
    uint64_t bytes = text.size();
    ranks.broadcast(&bytes, sizeof bytes, from);
    text.resize(bytes);
    if (bytes > 0) ranks.broadcast(text.data(), bytes, from);
    return text;
}

Device weakest_device(const Device& own, Communicator& ranks) {
    Device all = own;
    all.bfloat16 = least(own.bfloat16, ranks) > 0;
    all.tf32 = least(own.tf32, ranks) > 0;
    all.fuses_gelu = least(own.fuses_gelu, ranks) > 0;
    all.free_bytes = size_t(least(double(own.free_bytes), ranks));
    return all;
}

void divide_verification(TrainPlan& plan, Communicator& ranks) {
    std::string identity = host_name();
    for (const auto* shards : {&plan.data.train, &plan.data.val}) {
        for (const std::filesystem::path& shard : *shards) {
            const FileVersion version = InputFile(shard).version();
            identity += concat(" ", version.device, ":", version.inode);
        }
    }
    const uint64_t hash = xxh3_64(identity.data(), identity.size());
    const std::vector<double> low = gathered(double(uint32_t(hash)), ranks);  // a double holds 53 bits exactly
    const std::vector<double> high = gathered(double(hash >> 32), ranks);
    const auto own = size_t(ranks.rank());
    plan.verify_part = plan.verify_parts = 0;
    for (size_t r = 0; r < low.size(); r++) {
        if (low[r] != low[own] || high[r] != high[own]) continue;
        if (r < own) plan.verify_part++;
        plan.verify_parts++;
    }
}

std::map<std::string, std::string> resolved_options(const TrainPlan& plan) {
    const TrainOptions& o = plan.options;
    return {{"the model", describe(plan.config)},
            {"--batch-size", std::to_string(o.B)},
            {"--sequence-length", std::to_string(o.T)},
            {"--total-batch-size", std::to_string(o.total_batch_tokens)},
            {"--dtype", o.dtype},
            {"--tf32", std::to_string(o.tf32)},
            {"--zero-stage", std::to_string(o.zero_stage)},
            {"--reduce-dtype", o.reduce_dtype}};
}

}  // namespace kiln
