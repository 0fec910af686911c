#pragma once
// llm.c's evaluation file: questions such as HellaSwag's, with several completions of which one is right. A header of
// 256 int32, then each example as uint16: 65535, its bytes, its index, the label, the number of completions, and for
// the context and each completion the number of tokens and the tokens.
//   [0] 20240522  [1] version 1  [2] examples  [3] bytes of the longest one
#include <filesystem>
#include <span>
#include <vector>

namespace kiln {

struct EvaluationExample {
    int label = 0;             // the index of the right completion
    std::vector<int> context;  // shared by all completions
    std::vector<std::vector<int>> completions;
    bool operator==(const EvaluationExample&) const = default;
};

// Throws Error that names the file and the example.
std::vector<EvaluationExample> read_evaluation(const std::filesystem::path& path);

// Throws Error if an example does not fit: llm.c takes four completions, tokens below 65,535, less than 65,536 bytes an
// example and less than 65,536 examples.
void write_evaluation(const std::filesystem::path& path, std::span<const EvaluationExample> examples);

}  // namespace kiln
