#pragma once
// llm.c's training state, beside its model file: a header of 256 int32, then AdamW's two moments and the float32 master
// weights, each in the layout of a model file, then the order of the data if it is shuffled.
//   [0] 20240527  [1] version 1  [2] processes  [3] rank  [4] there are master weights  [5] the data is shuffled
//   [10] steps done  [20..21] state of the random numbers  [22..23] the same before the last update
//   [30..31] index of the shard  [32..33] index of the batch in it
#include <cstdint>
#include <filesystem>
#include <functional>

#include "tools/checkpoint/model_state.h"
#include "tools/formats/llmc.h"

namespace kiln {

// Throws Error unless the file begins as a training state of llm.c.
void check_llmc_state(const std::filesystem::path& path);

// The training state of a run of llm.c with one process, or with several processes and an unsharded state (-z 0).
class LlmcStateFile {
public:
    // Throws Error if the file is damaged, or is not the state of this model. `model` must outlive it.
    LlmcStateFile(const std::filesystem::path& path, const LlmcModelFile& model);
    int64_t step() const { return step_; }
    // The moments, and as weights the master weights; without these, the model's. Must not outlive this object.
    ModelState state() const;

private:
    void read(const Arena& arena, size_t offset, std::span<float> out) const;

    InputFile file_;
    const LlmcModelFile& model_;
    int64_t step_ = 0;
    bool master_weights_ = false;
};

// Writes the state of a checkpoint of Kiln, whose weights are `model`, for one process of llm.c. The file cannot hold
// Kiln's place in the data: llm.c starts with its first shard.
void write_llmc_state(const std::filesystem::path& path, const std::filesystem::path& checkpoint,
                      const StoredModel& model, int64_t step, const ConversionProgress& progress);

}  // namespace kiln
