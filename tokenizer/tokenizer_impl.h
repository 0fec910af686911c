#pragma once
// What a kind of tokenizer provides; Tokenizer is the same for all of them.
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace kiln {

// A token that the text is searched for before it is split.
struct AddedToken {
    int id = 0;
    std::string content;
    bool special = false;       // found only when the caller allows it
    bool in_vocabulary = true;  // stands in the model's vocabulary too
    bool normalized = false;    // searched for in the normalised text instead of the original
    bool single_word = false;   // not within a word
    bool lstrip = false;        // takes the white space before it
    bool rstrip = false;        // ... and after it
};

// Immutable; safe to share between threads.
class TokenizerKind {
public:
    struct File {
        std::string name, content;
    };
    virtual ~TokenizerKind() = default;

    // Appends the ids of `text` and, unless `spans` is null, for each the bytes of `text` that it stands for. Throws
    // Error on text that this kind cannot encode.
    virtual void encode(std::string_view text, const EncodeOptions& options, std::vector<int>& ids,
                        std::vector<TextSpan>* spans) const = 0;
    virtual int vocab_size() const = 0;
    virtual std::string_view token_bytes(int id) const = 0;  // 0 <= id < vocab_size; empty: the id has no token
    virtual const std::vector<AddedToken>& added_tokens() const = 0;
    virtual std::vector<File> files() const = 0;  // what save() writes; the first is enough to load it again
    // The bytes of a token with which a text begins, perhaps without a space that encoding put there. Says whether the
    // text begins with the next token just as well.
    virtual std::string_view bytes_at_start(int id, bool& at_start) const {
        at_start = false;
        return token_bytes(id);
    }
    virtual int end_of_text() const { return -1; }  // -1: to be known by its name
};

// Writes a tokenizer's files into `directory`, and removes what another tokenizer had there: load() would take it for
// part of this one, or instead of it. The main file comes first in `files`, and last into the directory.
void replace_tokenizer_files(const std::filesystem::path& directory, const std::vector<TokenizerKind::File>& files);

}  // namespace kiln
