#pragma once
// The words that a pre-tokenizer cuts a text into.
#include <string>
#include <string_view>
#include <vector>

namespace kiln {

using Words = std::vector<std::string>;

template <class Splits>
Words words_of(const Splits& splits, std::string_view text) {
    Words result;
    splits.split(text, [&](std::string_view word) { result.emplace_back(word); });
    return result;
}

}  // namespace kiln
