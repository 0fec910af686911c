#include "tokenizer/added_tokens.h"

#include <algorithm>
#include <set>

#include "cpu_reference/interface/error.h"
#include "tokenizer/pre_tokenizer/scanners.h"

namespace kiln {
namespace {

unsigned char lead(const AddedToken& token) {
    return static_cast<unsigned char>(token.content[0]);
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
    std::stable_sort(tokens_.begin(), tokens_.end(), [](const AddedToken& a, const AddedToken& b) {
        return lead(a) != lead(b) ? lead(a) < lead(b) : a.content.size() > b.content.size();
    });
    if (!tokens_.empty() && lead(tokens_.front()) == lead(tokens_.back())) only_lead_ = tokens_.front().content[0];
    for (const AddedToken& token : tokens_) {
        ++first_[lead(token) + 1];
        longest_ = std::max(longest_, token.content.size());
    }
    for (size_t b = 0; b < 256; ++b) first_[b + 1] += first_[b];
    if (std::any_of(tokens_.begin(), tokens_.end(), [](const AddedToken& token) { return token.single_word; })) {
        // Hugging Face counts the two joiners as parts of words; Oniguruma's \w does not.
        words_ = std::make_shared<const RegexSplitter>("[\\w\\x{200C}\\x{200D}]", "single_word", true);
    }
}

bool AddedTokenFinder::may_cut(std::string_view text, size_t at) const {
    if (tokens_.empty()) return true;
    const size_t space = space_before(text, at);
    int length;
    if (space < at && scanners::class_at(text.data() + at, text.data() + text.size(), length) == CharClass::kSpace) {
        return false;  // an lstrip or rstrip token would take the spaces on both sides
    }
    if (match(text.substr(at))) return false;
    for (size_t i = space - std::min(space, longest_); i < at; ++i) {
        const AddedToken* const token = match(text.substr(i));
        if (token && i + token->content.size() >= space) return false;
    }
    return true;
}

bool AddedTokenFinder::is_single_word(std::string_view text, size_t begin, size_t end) const {
    const auto is_word = [&](std::string_view character) {
        bool word = false;
        words_->split(character, [&](std::string_view) { word = true; });
        return word;
    };
    if (begin > 0) {
        const size_t before = character_before(text, begin);
        if (is_word(text.substr(before, begin - before))) return false;
    }
    int length;
    if (end == text.size()) return true;
    scanners::class_at(text.data() + end, text.data() + text.size(), length);
    return !is_word(text.substr(end, static_cast<size_t>(length)));
}

size_t AddedTokenFinder::space_before(std::string_view text, size_t at) {
    while (at > 0) {
        const size_t before = character_before(text, at);
        int length;
        if (scanners::class_at(text.data() + before, text.data() + at, length) != CharClass::kSpace) break;
        at = before;
    }
    return at;
}

size_t AddedTokenFinder::space_after(std::string_view text, size_t at) {
    return static_cast<size_t>(scanners::skip_run(text.data() + at, text.data() + text.size(), CharClass::kSpace) -
                               text.data());
}

std::string other_special_token(const std::string& token) {
    const size_t begin = std::min(token.find_first_not_of("<[|/"), token.size());
    const size_t end = token.find_last_not_of(">]|");
    const std::string name = end == token.npos || end < begin ? "special" : token.substr(begin, end + 1 - begin);
    return concat("<|", name, name.size() + 2 <= token.size() ? "_1" : "", "|>");
}

void check_special_tokens(const std::vector<std::string>& tokens) {
    std::set<std::string_view> seen;
    for (const std::string& token : tokens) {
        if (token.empty()) throw UsageError("a special token is empty");
        if (find_invalid_utf8(token)) throw UsageError(concat("the special token \"", token, "\" is not UTF-8"));
        if (!seen.insert(token).second) throw UsageError(concat("the special token \"", token, "\" is given twice"));
        uint32_t character;
        if (static_cast<size_t>(decode_utf8(token.data(), token.data() + token.size(), character)) == token.size()) {
            throw UsageError(concat("the special token \"", token,
                                    "\" is one character, which ordinary text may contain; use a longer one, such as ",
                                    other_special_token(token)));
        }
    }
}

}  // namespace kiln
