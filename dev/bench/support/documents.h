#pragma once
// A file as the documents that the benchmarks of tokenizers encode, and the clock.
#include <algorithm>
#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/io/file.h"

namespace kiln::bench {

// The first `bytes` of the file, to a newline.
inline std::string read_lines(const std::string& path, size_t bytes) {
    std::string text = InputFile(path).read_all(UINT64_MAX).substr(0, bytes);
    if (const size_t newline = text.rfind('\n'); newline != text.npos) text.resize(newline + 1);
    return text;
}

// A document ends at the first newline after 10,000 bytes.
inline std::vector<std::string_view> cut(std::string_view text) {
    std::vector<std::string_view> documents;
    while (!text.empty()) {
        const size_t newline = text.find('\n', std::min<size_t>(10'000, text.size()));
        const size_t end = newline == text.npos ? text.size() : newline + 1;
        documents.push_back(text.substr(0, end));
        text.remove_prefix(end);
    }
    return documents;
}

inline double seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace kiln::bench
