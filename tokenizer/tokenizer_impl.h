#pragma once
// What each kind of tokenizer implements; Tokenizer is the same for all kinds.
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace kiln {

// A token that is searched for in the text before the pre-tokenizer splits it.
struct AddedToken {
    int id = 0;
    std::string content;
    bool special = false;       // searched for only with allow_special
    bool in_vocabulary = true;  // the model's vocabulary has it too
    bool normalized = false;    // searched for in the normalized text, not in the original one
    bool single_word = false;   // ignored within a longer word
    bool lstrip = false;        // takes the white space before it
    bool rstrip = false;        // takes the white space after it
};

// Immutable; safe to share between threads.
class TokenizerKind {
public:
    struct File {
        std::string name, content;
    };
    virtual ~TokenizerKind() = default;

    // Appends the ids of `text` and, unless `spans` is null, the bytes of `text` that each id stands for. Throws Error
    // on text that this kind cannot encode.
    virtual void encode(std::string_view text, const EncodeOptions& options, std::vector<int>& ids,
                        std::vector<TextSpan>* spans) const = 0;
    // As in Tokenizer; from >= 1, and no counts in `options`.
    virtual size_t find_cut(std::string_view text, size_t from, const EncodeOptions& options) const = 0;
    virtual int vocab_size() const = 0;
    virtual std::string_view token_bytes(int id) const = 0;  // 0 <= id < vocab_size; empty if the id has no token
    virtual const std::vector<AddedToken>& added_tokens() const = 0;
    virtual std::vector<File> files() const = 0;  // what save() writes; the first is enough to load it again
    // The bytes of the first token of a text, without the space that encode() added. Sets `at_start` if the next token
    // still counts as the first one.
    virtual std::string_view bytes_at_start(int id, bool& at_start) const {
        at_start = false;
        return token_bytes(id);
    }
    virtual const Roles& roles() const = 0;  // those that its files name
};

// Throws Error if `directory` has a file with the name of a tokenizer's file that is not one of `files`: it may be the
// only copy of someone's tokenizer.
void check_replaces_nothing(const std::filesystem::path& directory, const std::vector<TokenizerKind::File>& files);

// Writes a tokenizer's files into `directory`, the main one (the first of `files`) last, and removes the files of
// another tokenizer, which load() could mistake for files of this one.
void replace_tokenizer_files(const std::filesystem::path& directory, const std::vector<TokenizerKind::File>& files);

}  // namespace kiln
