#pragma once
// Finds added tokens in a text: the leftmost one first, and at each place the longest one.
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

    // Calls found(int id, std::string_view) for each token with the bytes that it takes, and plain(std::string_view)
    // for the text between tokens unless it is empty, in the order of the text. A special token that `options` do not
    // allow, and a single_word token within a word, are plain text; no other token is looked for inside them. As in
    // `tokenizers`, a token whose text an lstrip or rstrip has taken is none.
    template <class Plain, class Found>
    void split(std::string_view text, const EncodeOptions& options, Plain&& plain, Found&& found) const {
        size_t start = 0;  // of the text that has not been passed on
        for (size_t i = next_lead(text, 0); i < text.size(); i = next_lead(text, i)) {
            const AddedToken* token = match(text.substr(i));
            if (!token) {
                ++i;
                continue;
            }
            const size_t at = std::exchange(i, i + token->content.size());
            if (token->special && !options.allows(token->id)) {
                if (options.counts) count_special(token->id, *options.counts);
                continue;
            }
            if (token->single_word && !is_single_word(text, at, i)) continue;
            const size_t begin = token->lstrip ? std::max(start, space_before(text, at)) : at;
            const size_t end = token->rstrip ? space_after(text, i) : i;
            if (begin >= end) continue;
            if (begin > start) plain(text.substr(start, begin - start));
            found(token->id, text.substr(begin, end - begin));
            start = end;
        }
        if (start < text.size()) plain(text.substr(start));
    }

    // Whether split() finds the same in the two parts of `text` as in the whole, whatever `options` allow: no token
    // ends or starts at the cut or is cut, and none takes white space there. Needs longest() bytes of text after `at`.
    bool may_cut(std::string_view text, size_t at) const;  // 0 < at < text.size()
    size_t longest() const { return longest_; }            // in bytes; 0: there are no tokens

private:
    static void count_special(int id, EncodeCounts& counts) {
        if (counts.special_as_text++ == 0) counts.first_special = id;
    }
    // The first place from `at` on where a token may start, or the end of the text.
    size_t next_lead(std::string_view text, size_t at) const {
        if (tokens_.empty()) return text.size();
        if (!only_lead_) return at;
        return std::min(text.find(*only_lead_, at), text.size());
    }
    const AddedToken* match(std::string_view text) const {  // the token that `text` starts with
        const unsigned char lead = text[0];
        for (size_t i = first_[lead]; i < first_[lead + 1]; ++i) {
            if (text.starts_with(tokens_[i].content)) return &tokens_[i];
        }
        return nullptr;
    }
    bool is_single_word(std::string_view text, size_t begin, size_t end) const;  // no part of a longer word
    static size_t space_before(std::string_view text, size_t at);  // start of the white space that ends at `at`
    static size_t space_after(std::string_view text, size_t at);   // end of the white space that starts at `at`

    std::vector<AddedToken> tokens_;  // sorted by first byte, then the longest first
    size_t longest_ = 0;
    std::optional<char> only_lead_;               // the byte that all tokens start with, often <
    std::array<size_t, 257> first_ = {};          // tokens first_[b] to first_[b + 1] - 1 start with byte b
    std::shared_ptr<const RegexSplitter> words_;  // matches one character of a word; null if no token is single_word
};

// A name for a special token instead of `token`: "end" -> "<|end|>", "<|end|>" -> "<|end_1|>".
std::string other_special_token(const std::string& token);

// Throws UsageError if a special token is empty, not UTF-8, given twice, or one character: trainers give that id to
// the character in ordinary text.
void check_special_tokens(const std::vector<std::string>& tokens);

}  // namespace kiln
