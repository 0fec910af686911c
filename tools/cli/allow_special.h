#pragma once
// --allow-special, for all commands that read text: which special tokens in the text are encoded as special tokens.
#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"
#include "tools/cli/options.h"

namespace kiln {

class AllowSpecial {
public:
    bool on() const { return text_ != "none"; }
    bool all() const { return text_ == "all"; }
    std::vector<std::string> list() const;  // empty: none, or all
    // For EncodeOptions::allowed. Throws Error if the tokenizer has no such special token.
    std::vector<bool> ids(const Tokenizer& tokenizer) const;

private:
    friend void add_allow_special(OptionSet& set, AllowSpecial& special);
    std::string text_ = "none";
};
void add_allow_special(OptionSet& set, AllowSpecial& special);

// What a user should know after text was encoded; empty: nothing. `allowed`: --allow-special was given.
std::string note_of(const EncodeCounts& counts, const Tokenizer& tokenizer, bool allowed);

}  // namespace kiln
