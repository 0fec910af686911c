#pragma once
// One Tokenizer for every kind: text (bytes) <-> ids. Load, save, encode, decode.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kiln {

struct EncodeOptions {
    bool continues = false;      // the text goes on where another ended: a tokenizer with add_prefix_space adds none
    bool allow_special = false;  // false: "<|endoftext|>" in the text is plain text (an injection otherwise)
};

// Bytes [begin, end) of a text.
struct TextSpan {
    size_t begin = 0, end = 0;
    bool operator==(const TextSpan&) const = default;
};

struct Encoding {
    std::vector<int> ids;
    // By token: what of the original text it stands for. A token with part of a character's normal form has the whole
    // character; a space that was put in front has an empty span.
    std::vector<TextSpan> spans;
};

class TokenizerKind;

class Tokenizer {
public:
    // A directory (tokenizer.json, else vocab.json + merges.txt, else tokenizer.model), a tokenizer.json or a
    // SentencePiece NAME.model. Throws Error naming file and place.
    static Tokenizer load(const std::filesystem::path& path);
    // Parses the text of a tokenizer.json; `name` stands in error messages.
    static Tokenizer parse(std::string_view json, const std::string& name);
    // Writes its files into `directory`: tokenizer.json with vocab.json, merges.txt and so on, or tokenizer.model.
    void save(const std::filesystem::path& directory) const;
    std::string to_json() const;  // the text of tokenizer.json (tokenizer.model's bytes for SentencePiece)

    // Byte-level kinds take any bytes: invalid UTF-8 round-trips unless a normaliser is set. Others, and a normaliser,
    // throw Error with the offset; only SentencePiece replaces such bytes by U+FFFD.
    std::vector<int> encode(std::string_view text, const EncodeOptions& options = {}) const;
    void encode(std::string_view text, const EncodeOptions& options, std::vector<int>& ids) const;  // appends
    Encoding encode_with_offsets(std::string_view text, const EncodeOptions& options = {}) const;
    // Special tokens included; throws on an id out of range. `continues`: other ids came before, so a space that the
    // first token begins with belongs to the text.
    std::string decode(const std::vector<int>& ids, bool continues = false) const;
    std::string_view token_bytes(int id) const;  // the bytes one id stands for; empty: no token has it
    bool is_special(int id) const;

    int vocab_size() const;                                     // ids are 0 .. vocab_size - 1
    std::optional<int> token_id(std::string_view token) const;  // of a special token's text
    // The document separator: <|endoftext|>, </s>, <|end_of_text|>, <|im_end|> ..., the first there is; of a
    // SentencePiece model the one it names. Throws if none.
    int end_of_text() const;

    Tokenizer(Tokenizer&&) noexcept;
    Tokenizer& operator=(Tokenizer&&) noexcept;
    ~Tokenizer();

    explicit Tokenizer(std::unique_ptr<const TokenizerKind> kind);

private:
    friend class DecodeStream;
    std::unique_ptr<const TokenizerKind> kind_;
    std::vector<bool> special_;  // by id
};

// The files that make up the tokenizer at `path`, as load() would read them, the main one first. Throws Error if there
// is none.
std::vector<std::filesystem::path> tokenizer_files(const std::filesystem::path& path);

// The names that such files have in a directory, whatever the kind.
const std::vector<std::string>& tokenizer_file_names();

// Turns ids into text as they come; never shows half a character. Bytes that can begin no character come out as they
// are.
class DecodeStream {
public:
    explicit DecodeStream(const Tokenizer& tokenizer, bool continues = false)  // as in Tokenizer::decode
        : tokenizer_(tokenizer), at_start_(!continues) {}
    std::string push(int id);  // whole characters that are complete now
    std::string finish();      // what is left, whole or not

private:
    const Tokenizer& tokenizer_;
    std::string pending_;
    bool at_start_;
};

}  // namespace kiln
