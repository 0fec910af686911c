#pragma once
// The shard file: llm.c's layout, read by it byte for byte. 256 int32 of header, then the tokens and nothing else.
//   [0] magic  [1] version  [2] number of tokens                                         as in llm.c
//   [3] "KILN" [4] vocabulary size [5] end-of-text id [6] documents [7..8] XXH3-64 of the payload
//   [9] shard index [10] shards of the split [11..18] the tokenizer.json's SHA-256
//   [19..20] XXH3-64 of words 0..18                                                     ours; 0 elsewhere
// Vocabulary up to 65,536: magic 20240520, version 1, uint16. Above: magic 20240801, version 7, uint32.
#include <array>
#include <cstdint>
#include <filesystem>
#include <span>
#include <stop_token>
#include <vector>

#include "tokenizer/io/file.h"

namespace kiln {

inline constexpr int kShardHeaderBytes = 1024;
inline constexpr uint64_t kMaxShardTokens = uint64_t(1) << 30;

struct ShardInfo {
    int token_bytes = 2;  // 2 or 4
    uint64_t num_tokens = 0;
    bool ours = false;                     // the header words below are set
    int vocab_size = 0, end_of_text = -1;  // -1: the tokenizer has no such token
    int num_documents = 0;                 // that begin in this shard
    int index = 0, count = 0;              // which of how many of its split; count 0: not known yet
    uint64_t payload_xxh3 = 0;
    std::array<unsigned char, 32> tokenizer_sha256{};
    uint64_t payload_bytes() const { return num_tokens * uint64_t(token_bytes); }
};

// 2 up to 65,536 ids, 4 above.
int shard_token_bytes(int vocab_size);
// Appends tokens to `packed` as a shard holds them. Throws Error on one outside [0, vocab_size).
void pack_tokens(std::span<const int> tokens, int vocab_size, std::vector<unsigned char>& packed);

// A shard mapped for reading. The constructor checks the header and the file's size, not the payload's checksum.
class Shard {
public:
    explicit Shard(const std::filesystem::path& path);  // throws Error: missing, cut, foreign, damaged header
    const ShardInfo& info() const { return info_; }
    const std::filesystem::path& path() const { return path_; }
    // Tokens first .. first + n - 1 into out (n). Throws if they are not all in the shard. Safe from several threads.
    void copy(uint64_t first, size_t n, int* out) const;
    // Reads the whole payload; throws if it does not match its checksum. llm.c's shards have none: nothing to check.
    void verify(const std::stop_token& stop = {}) const;

private:
    std::filesystem::path path_;
    MappedFile file_;
    ShardInfo info_;
};

// Writes one shard as its tokens come, into <path>.partial: it has its name only once finish() returns. A partial file
// that was left behind can be gone on with.
class ShardWriter {
public:
    ShardWriter(const std::filesystem::path& path, int vocab_size);
    // Goes on behind the first `tokens` of a partial file, or of the finished one that has come of it; what is behind
    // them is cut off. Throws Error if they are not all there.
    static ShardWriter resume(const std::filesystem::path& path, int vocab_size, uint64_t tokens);
    ShardWriter(ShardWriter&&) noexcept = default;
    void append(std::span<const int> tokens);            // throws on a token outside [0, vocab_size), or one too many
    void append(std::span<const unsigned char> packed);  // by pack_tokens(); throws on one too many
    uint64_t num_tokens() const { return num_tokens_; }
    void sync();  // what has been appended survives a power cut
    // `info` gives end_of_text, num_documents, index, count and tokenizer_sha256; the rest follows from the tokens.
    // Returns the information as written.
    ShardInfo finish(ShardInfo info);

private:
    ShardWriter(const std::filesystem::path& path, int vocab_size, OutputFile out);
    void flush();

    std::filesystem::path path_;
    int vocab_size_;
    OutputFile out_;
    std::vector<unsigned char> buffer_;
    Xxh3 hash_;
    uint64_t num_tokens_ = 0;
};
std::filesystem::path partial_path(const std::filesystem::path& shard);

// A whole shard at once; `info` gives vocab_size too.
ShardInfo write_shard(const std::filesystem::path& path, std::span<const int> tokens, const ShardInfo& info);

// Writes the count into a shard's header, once the last shard of the split is written. Throws if the file is no shard
// of ours.
void set_shard_count(const std::filesystem::path& path, int count);

}  // namespace kiln
