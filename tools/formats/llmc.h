#pragma once
// llm.c's model file: a header of 256 int32, then the 16 tensors of GPT-2. Each holds the values of all layers.
//   [0] 20240326  [1] version 3: float32, 5: bfloat16  [2] max_T  [3] V  [4] L  [5] NH  [6] C  [7] Vp
// wte has Vp rows, V rounded up to a multiple of 128; those after V are zero.
#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "tokenizer/io/file.h"
#include "tools/formats/stored_model.h"

namespace kiln {

inline constexpr uint64_t kLlmcHeaderBytes = 1024;
using LlmcHeader = std::array<int32_t, kLlmcHeaderBytes / sizeof(int32_t)>;

// Where llm.c's files have the parameters of a model, and its gradients and moments.
struct LlmcLayout {
    LlmcLayout(const ModelConfig& config, int padded_V);
    struct Tensor {
        TensorSpec spec;  // of param_table
        uint64_t first;   // its first element
    };
    std::vector<Tensor> tensors;  // in the order of the file
    uint64_t elems = 0;           // of all, with the padding of wte
    // Where the file has this element of an arena. The tensor's next elements follow it.
    uint64_t find(size_t arena_offset) const;
};

// Writes all values of a model, with zeros as padding. `read` is called for one tensor at a time; `written` is told how
// many bytes were written since its last call.
void write_llmc_tensors(OutputFile& file, const LlmcLayout& layout, bool bfloat16,
                        const std::function<void(const TensorSpec& spec, std::span<float> out)>& read,
                        const std::function<void(uint64_t bytes)>& written);

// Throws Error that names the file if its magic number is not `magic`, or its version is none of `versions`.
LlmcHeader read_llmc_header(const InputFile& file, int32_t magic, std::initializer_list<int32_t> versions,
                            std::string_view what);

// An open model file, whose header and size have been checked.
class LlmcModelFile {
public:
    explicit LlmcModelFile(const std::filesystem::path& path);
    const ModelConfig& config() const { return config_; }
    const LlmcLayout& layout() const { return *layout_; }
    bool bfloat16() const { return bfloat16_; }
    // Elements of an arena from arena_offset on, all of one tensor.
    void read(size_t arena_offset, std::span<float> out) const;

private:
    InputFile file_;
    ModelConfig config_;
    std::optional<LlmcLayout> layout_;
    bool bfloat16_ = false;
};

// Throws Error unless the model is one that llm.c's programs compute: GPT-2's architecture.
void check_llmc_model(const ModelConfig& config);
int llmc_padded_vocabulary(int V);

bool is_llmc_model(const std::filesystem::path& path);  // by its first bytes; false if it cannot be read

// The model's tokenizer is that of gpt2_tokenizer.bin beside it, if there is one.
StoredModel open_llmc(const std::filesystem::path& path);

// type: "f32" or "bf16"; empty: that of the model, or f32. If the model has a byte-level tokenizer, also writes
// gpt2_tokenizer.bin beside `path`. Throws Error if that would replace another tokenizer.
void write_llmc(const std::filesystem::path& path, const StoredModel& model, std::string_view type,
                const ConversionProgress& progress);

}  // namespace kiln
