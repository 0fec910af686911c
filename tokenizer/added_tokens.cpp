#include "tokenizer/added_tokens.h"

#include <algorithm>

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
    for (const AddedToken& token : tokens_) ++first_[lead(token) + 1];
    for (size_t b = 0; b < 256; ++b) first_[b + 1] += first_[b];
}

}  // namespace kiln
