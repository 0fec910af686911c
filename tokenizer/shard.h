#pragma once
// The shard file: llm.c's layout, read by it byte for byte. 256 int32 of header, then the tokens and nothing else.
//   [0] magic  [1] version  [2] number of tokens                                         as in llm.c
//   [3] "KILN" [4] vocabulary size [5] end-of-text id [6] documents [7..8] XXH3-64 of the payload
//   [9] shard index [10] shards of the split [11..18] first 32 bytes of the tokenizer's SHA-256      ours; 0 elsewhere
// Vocabulary up to 65,536: magic 20240520, version 1, uint16. Above: magic 20240801, version 7, uint32.
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "tokenizer/file.h"

namespace kiln {

inline constexpr int kShardHeaderBytes = 1024;
inline constexpr uint64_t kMaxShardTokens = uint64_t(1) << 30;

struct ShardInfo {
    int token_bytes = 2;  // 2 or 4
    uint64_t num_tokens = 0;
    bool ours = false;  // the header words below are set
    int vocab_size = 0, end_of_text = -1, num_documents = 0, index = 0, count = 0;
    uint64_t payload_xxh3 = 0;
};

// A shard mapped for reading. The constructor checks header and file size, not the checksum.
class Shard {
public:
    explicit Shard(const std::filesystem::path& path);  // throws Error: missing, truncated, foreign, wrong version
    const ShardInfo& info() const { return info_; }
    const std::filesystem::path& path() const { return path_; }
    void copy(uint64_t first, size_t n, int* out) const;  // tokens first .. first + n - 1, out (n)
    void verify() const;                                  // throws if the payload does not match its checksum

private:
    std::filesystem::path path_;
    MappedFile file_;
    ShardInfo info_;
};

// Writes one shard (atomically). Tokens must lie in [0, vocab_size).
void write_shard(const std::filesystem::path& path, std::span<const int> tokens, ShardInfo info);

}  // namespace kiln
