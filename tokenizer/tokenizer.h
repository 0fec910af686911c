#pragma once
// A Tokenizer of any kind: text (bytes) to ids and back. It loads, saves, encodes and decodes.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/roles.h"

namespace kiln {

// What encoding did that a user may not expect.
struct EncodeCounts {
    uint64_t special_as_text = 0;  // special tokens in the text that are plain text
    int first_special = -1;        // the first of them
    uint64_t unknown = 0;          // characters (or bytes) without a token that became the unk token
    uint64_t left_out = 0;         // those that became nothing, as the tokenizer has no unk token
    EncodeCounts& operator+=(const EncodeCounts& other);
};

struct EncodeOptions {
    bool continues = false;      // the text continues an earlier one, so no prefix space is added
    bool continued = false;      // another text continues it, so no space is added or removed at its end
    bool allow_special = false;  // false: "<|endoftext|>" in the text is plain text, so users cannot inject it
    const std::vector<bool>* allowed = nullptr;  // by id: the special tokens that allow_special allows; null: all
    EncodeCounts* counts = nullptr;              // added to, unless null

    bool allows(int id) const { return allow_special && (!allowed || (*allowed)[static_cast<size_t>(id)]); }
};

// Bytes [begin, end) of a text.
struct TextSpan {
    size_t begin = 0, end = 0;
    bool operator==(const TextSpan&) const = default;
};

struct Encoding {
    std::vector<int> ids;
    // For each token, the bytes of the original text that it stands for. If a character's normal form is cut into
    // several tokens, each has the whole character. An added space has an empty span.
    std::vector<TextSpan> spans;
};

class TokenizerKind;

class Tokenizer {
public:
    // `path` is a directory, a tokenizer.json, a SentencePiece NAME.model, or a NAME.bin of llm.c or llama2.c. Throws
    // Error that names the file and the place in it.
    static Tokenizer load(const std::filesystem::path& path);
    // Parses the text of a tokenizer.json; messages contain `name`.
    static Tokenizer parse(std::string_view json, const std::string& name);
    // Writes all files of its format into `directory`. Throws Error if another tokenizer there would be lost, unless
    // `overwrite`.
    void save(const std::filesystem::path& directory, bool overwrite = false) const;
    std::string to_json() const;  // the text of tokenizer.json (tokenizer.model's bytes for SentencePiece)

    // A byte-level tokenizer without a normalizer encodes any bytes and decodes to them. SentencePiece replaces
    // invalid UTF-8 by U+FFFD. All others throw Error with the offset of invalid UTF-8.
    std::vector<int> encode(std::string_view text, const EncodeOptions& options = {}) const;
    void encode(std::string_view text, const EncodeOptions& options, std::vector<int>& ids) const;  // appends
    Encoding encode_with_offsets(std::string_view text, const EncodeOptions& options = {}) const;
    // The first place from byte `from` on where a long text can be cut into two: whatever follows `text`, the ids of
    // the first part (`continued`) and of the second one (`continues`) are those of the whole. `text` is the start of a
    // text, or continues one that was cut so. 0: there is no such place, or more of the text is needed to tell. More
    // text never changes a result that is not 0.
    size_t find_cut(std::string_view text, size_t from, const EncodeOptions& options = {}) const;
    // Includes special tokens; throws on an id out of range. `continues`: the ids continue earlier ones, so a space at
    // the start of the first token belongs to the text.
    std::string decode(const std::vector<int>& ids, bool continues = false) const;
    std::string_view token_bytes(int id) const;  // the bytes of one token; empty if no token has the id
    bool is_special(int id) const;
    // For EncodeOptions::allowed. Throws Error if one of the texts is no special token.
    std::vector<bool> special_ids(const std::vector<std::string>& texts) const;

    int vocab_size() const;                                     // ids are 0 .. vocab_size - 1
    std::optional<int> token_id(std::string_view token) const;  // of an added token
    // From tokenizer_config.json, special_tokens_map.json, config.json, the tokenizer's own file, else by usual names.
    const Roles& roles() const { return roles_; }
    int end_of_text() const;  // the eos token, which separates documents. Throws if there is none.

    Tokenizer(Tokenizer&&) noexcept;
    Tokenizer& operator=(Tokenizer&&) noexcept;
    ~Tokenizer();

    explicit Tokenizer(std::unique_ptr<const TokenizerKind> kind);
    const TokenizerKind& kind() const { return *kind_; }
    // What a user should know about the files; empty: nothing.
    const std::string& note() const { return note_; }

private:
    friend class DecodeStream;
    std::unique_ptr<const TokenizerKind> kind_;
    std::vector<bool> special_;  // by id
    Roles roles_;
    std::string note_;
};

// The names of a tokenizer's files in a directory, of all kinds.
const std::vector<std::string>& tokenizer_file_names();

// The main file of the tokenizer in a directory, which tells its kind: tokenizer.json, vocab.json (with merges.txt) or
// tokenizer.model. Empty if the directory has no tokenizer. A tokenizer.json that Kiln cannot read gives way to a
// tokenizer.model beside it; `passed_over` gets the reason.
std::filesystem::path find_tokenizer(const std::filesystem::path& directory, std::string* passed_over = nullptr);

// The files that load() reads from `path`, the main one first. Throws Error if there is no tokenizer.
std::vector<std::filesystem::path> tokenizer_files(const std::filesystem::path& path);

// Decodes ids one by one into whole characters. Bytes that cannot begin a character are passed on unchanged.
class DecodeStream {
public:
    explicit DecodeStream(const Tokenizer& tokenizer, bool continues = false)  // as in Tokenizer::decode
        : tokenizer_(tokenizer), at_start_(!continues) {}
    std::string push(int id);  // the characters that are complete now
    std::string finish();      // the bytes that are left

private:
    const Tokenizer& tokenizer_;
    std::string pending_;
    bool at_start_;
};

}  // namespace kiln
