#pragma once
// The shard file, in llm.c's layout, so that llm.c can read it: a header of 256 int32, then the tokens.
//   [0] magic  [1] version  [2] number of tokens                                         as in llm.c
//   [3] "KILN" [4] vocabulary size [5] end-of-text id [6] documents [7..8] XXH3-64 of the payload
//   [9] shard index [10] shards of the split [11..18] the tokenizer.json's SHA-256
//   [19..20] XXH3-64 of words 0..18                          [3..20] are Kiln's; llm.c writes 0
// Vocabularies up to 65,536: magic 20240520, version 1, uint16 tokens. Larger: magic 20240801, version 7, uint32.
#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
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
    bool ours = false;                     // written by Kiln: the fields below are set
    int vocab_size = 0, end_of_text = -1;  // -1: the tokenizer has no such token
    int num_documents = 0;                 // documents that begin in this shard
    int index = 0, count = 0;              // of the shards of its split; count 0: not known yet
    uint64_t payload_xxh3 = 0;
    std::array<unsigned char, 32> tokenizer_sha256{};
    uint64_t payload_bytes() const { return num_tokens * uint64_t(token_bytes); }
};

// 2 for up to 65,536 ids, else 4.
int shard_token_bytes(int vocab_size);
// Appends tokens to `packed` in the format of a shard. Throws Error on a token outside [0, vocab_size).
void pack_tokens(std::span<const int> tokens, int vocab_size, std::vector<unsigned char>& packed);

// A shard open for reading. The constructor checks the header and the size of the file, but not the payload. Whatever
// reads it throws Error if the file has been truncated or written to since. A file that was removed or replaced is read
// as it was, unless there are so many shards that this one could not be kept open.
class Shard {
public:
    explicit Shard(const std::filesystem::path& path);  // throws Error
    const ShardInfo& info() const { return info_; }
    const std::filesystem::path& path() const { return path_; }
    // Copies tokens first .. first + n - 1 into out (n). Throws if the shard does not have them. Threads may share it.
    void copy(uint64_t first, size_t n, int* out) const;
    // Reads the whole payload; throws if it does not match its checksum. llm.c's own shards have no checksum.
    void verify(const std::stop_token& stop = {}) const;

private:
    InputFile reopen() const;

    std::filesystem::path path_;
    FileVersion version_;
    std::optional<InputFile> file_;  // none: it is opened for each read
    ShardInfo info_;
};

// Writes one shard into <path>.partial; finish() renames the file to <path>. An interrupted write can be resumed.
class ShardWriter {
public:
    ShardWriter(const std::filesystem::path& path, int vocab_size);
    // Resumes after the first `tokens` tokens of the partial file (or of the finished file, if finish() has renamed it)
    // and drops the rest. Throws Error if the file has fewer tokens.
    static ShardWriter resume(const std::filesystem::path& path, int vocab_size, uint64_t tokens);
    ShardWriter(ShardWriter&&) noexcept = default;
    void append(std::span<const int> tokens);            // throws on a token outside [0, vocab_size), or too many
    void append(std::span<const unsigned char> packed);  // from pack_tokens(); throws on too many
    uint64_t num_tokens() const { return num_tokens_; }
    void sync();  // makes the tokens so far survive a power cut
    // Takes end_of_text, num_documents, index, count and tokenizer_sha256 from `info`. Returns the header as written.
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

// Writes a whole shard at once, with vocab_size from `info`.
ShardInfo write_shard(const std::filesystem::path& path, std::span<const int> tokens, const ShardInfo& info);

// Writes the number of shards of the split into the header. Throws if Kiln did not write the shard.
void set_shard_count(const std::filesystem::path& path, int count);

}  // namespace kiln
