#pragma once
// Finds added tokens in a text: the leftmost, and of those that start at one place the longest.
#include <array>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer_parts.h"

namespace kiln {

class AddedTokenFinder {
public:
    AddedTokenFinder() = default;
    explicit AddedTokenFinder(std::vector<AddedToken> tokens);

    // Calls plain(std::string_view) for each stretch between tokens, none of them empty, and found(int id) for each
    // token, in the order of the text.
    template <class Plain, class Found>
    void split(std::string_view text, Plain&& plain, Found&& found) const {
        size_t start = 0;
        for (size_t i = 0; !tokens_.empty() && i < text.size();) {
            const AddedToken* token = match(text.substr(i));
            if (!token) {
                ++i;
                continue;
            }
            if (i > start) plain(text.substr(start, i - start));
            found(token->id);
            i += token->content.size();
            start = i;
        }
        if (start < text.size()) plain(text.substr(start));
    }

private:
    const AddedToken* match(std::string_view text) const {  // at the very start of `text`
        const unsigned char lead = text[0];
        for (size_t i = first_[lead]; i < first_[lead + 1]; ++i) {
            if (text.starts_with(tokens_[i].content)) return &tokens_[i];
        }
        return nullptr;
    }

    std::vector<AddedToken> tokens_;      // by first byte, then longest first
    std::array<size_t, 257> first_ = {};  // tokens that start with byte b: first_[b] to first_[b + 1]
};

}  // namespace kiln
