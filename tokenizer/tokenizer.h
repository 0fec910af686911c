#pragma once
// One Tokenizer for every kind: text (bytes) <-> ids. Load, save, encode, decode.
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

class Tokenizer {
public:
    // A directory (tokenizer.json, else vocab.json + merges.txt) or a tokenizer.json. Throws Error naming file and
    // place.
    static Tokenizer load(const std::filesystem::path& path);
    // Parses the text of a tokenizer.json; `name` stands in error messages.
    static Tokenizer parse(std::string_view json, const std::string& name);
    // Writes tokenizer.json, vocab.json, merges.txt, tokenizer_config.json, special_tokens_map.json into `directory`.
    void save(const std::filesystem::path& directory) const;
    std::string to_json() const;  // the text of tokenizer.json

    // Any bytes: invalid UTF-8 round-trips unless a normaliser is set (then it throws, with the offset).
    std::vector<int> encode(std::string_view text, const EncodeOptions& options = {}) const;
    std::string decode(const std::vector<int>& ids) const;  // special tokens included; throws on an id out of range
    std::string_view token_bytes(int id) const;             // the bytes one id stands for
    bool is_special(int id) const;

    int vocab_size() const;                                     // ids are 0 .. vocab_size - 1
    std::optional<int> token_id(std::string_view token) const;  // of a special token's text
    // The document separator: <|endoftext|>, </s>, <|end_of_text|>, <|im_end|> ..., the first there is. Throws if none.
    int end_of_text() const;

    Tokenizer(Tokenizer&&) noexcept;
    Tokenizer& operator=(Tokenizer&&) noexcept;
    ~Tokenizer();

    struct Data;  // what the kinds share; tokenizer.cpp
    explicit Tokenizer(std::unique_ptr<const Data> data);

private:
    std::unique_ptr<const Data> data_;
};

// Turns ids into text as they come; never shows half a character. Bytes that can begin no character come out as they
// are.
class DecodeStream {
public:
    explicit DecodeStream(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
    std::string push(int id);  // whole characters that are complete now
    std::string finish();      // what is left, whole or not

private:
    const Tokenizer& tokenizer_;
    std::string pending_;
};

}  // namespace kiln
