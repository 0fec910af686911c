#pragma once
// Finds added tokens in a text: the leftmost, and of those that start at one place the longest.
#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/huggingface/parts.h"
#include "tokenizer/pre_tokenizer/regex_splitter.h"

namespace kiln {

class AddedTokenFinder {
public:
    AddedTokenFinder() = default;
    explicit AddedTokenFinder(std::vector<AddedToken> tokens);

    // Calls plain(std::string_view) for each stretch between tokens, none of them empty, and found(int id,
    // std::string_view) for each token with the stretch it takes, in the order of the text. A token that does not count
    // (special ones without allow_special, single words within a word) is plain text, and so is what other tokens would
    // see in it.
    template <class Plain, class Found>
    void split(std::string_view text, bool allow_special, Plain&& plain, Found&& found) const {
        size_t start = 0;  // of what has not been emitted
        for (size_t i = next_lead(text, 0); i < text.size(); i = next_lead(text, i)) {
            const AddedToken* token = match(text.substr(i));
            if (!token) {
                ++i;
                continue;
            }
            const size_t at = std::exchange(i, i + token->content.size());
            if ((token->special && !allow_special) || (token->single_word && !is_single_word(text, at, i))) continue;
            const size_t begin = token->lstrip ? std::max(start, space_before(text, at)) : at;
            if (begin > start) plain(text.substr(start, begin - start));
            start = token->rstrip ? space_after(text, i) : i;
            found(token->id, text.substr(begin, start - begin));
        }
        if (start < text.size()) plain(text.substr(start));
    }

private:
    // The next place from `at` on where a token may start, or the end of the text.
    size_t next_lead(std::string_view text, size_t at) const {
        if (tokens_.empty()) return text.size();
        if (!only_lead_) return at;
        return std::min(text.find(*only_lead_, at), text.size());
    }
    const AddedToken* match(std::string_view text) const {  // at the very start of `text`
        const unsigned char lead = text[0];
        for (size_t i = first_[lead]; i < first_[lead + 1]; ++i) {
            if (text.starts_with(tokens_[i].content)) return &tokens_[i];
        }
        return nullptr;
    }
    bool is_single_word(std::string_view text, size_t begin, size_t end) const;  // no letters, digits, marks beside it
    static size_t space_before(std::string_view text, size_t at);  // where the white space that ends at `at` begins
    static size_t space_after(std::string_view text, size_t at);   // where the white space that begins at `at` ends

    std::vector<AddedToken> tokens_;             // by first byte, then longest first
    std::optional<char> only_lead_;              // with which all tokens start: most often <
    std::array<size_t, 257> first_ = {};         // tokens that start with byte b: first_[b] to first_[b + 1]
    std::shared_ptr<const SplitPattern> words_;  // one character of a word; only if a token asks for it
};

// For trainers: throws UsageError if a special token is empty, no UTF-8, there twice, or a single character, which a
// token of text may be.
void check_special_tokens(const std::vector<std::string>& tokens);

}  // namespace kiln
