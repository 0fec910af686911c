#include "tokenizer/data/shard.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "cpu_reference/interface/error.h"

namespace kiln {

namespace fs = std::filesystem;

namespace {

constexpr int kHeaderWords = kShardHeaderBytes / 4;
constexpr int32_t kMagic16 = 20240520, kVersion16 = 1;
constexpr int32_t kMagic32 = 20240801, kVersion32 = 7;
constexpr int32_t kTag = 'K' | 'I' << 8 | 'L' << 16 | 'N' << 24;  // the bytes "KILN"
constexpr int kWordsUnderChecksum = 19, kWordsUsed = 21;

constexpr uint64_t kBehindBytes = uint64_t(8) << 20;
constexpr size_t kBufferBytes = size_t(256) << 10;  // a multiple of a token's

using Header = std::array<int32_t, kHeaderWords>;

uint64_t read_u64(const Header& header, int word) {
    uint64_t value;
    std::memcpy(&value, &header[word], sizeof value);
    return value;
}

uint64_t header_xxh3(const Header& header) {
    return xxh3_64(header.data(), kWordsUnderChecksum * sizeof(int32_t));
}

bool all_zero(const Header& header, int from) {
    return std::all_of(header.begin() + from, header.end(), [](int32_t word) { return word == 0; });
}

const char* format_name(int32_t magic) {
    switch (magic) {
        case 20240326: return " (an llm.c model)";
        case 20240327: return " (llm.c debug state)";
        case 20240328: return " (an llm.c tokenizer)";
        case 20240522: return " (llm.c evaluation data)";
        case 20240527: return " (llm.c training state)";
        default: return "";
    }
}

ShardInfo parse_header(const Header& header, const std::string& name) {
    ShardInfo info;
    KILN_CHECK(header[0] == kMagic16 || header[0] == kMagic32, name, ": not a shard: it begins with ", header[0],
               format_name(header[0]), " where ", kMagic16, " or ", kMagic32,
               " is expected; make shards with `kiln prepare`");
    info.token_bytes = header[0] == kMagic16 ? 2 : 4;
    const int32_t version = header[0] == kMagic16 ? kVersion16 : kVersion32;
    KILN_CHECK(header[1] == version, name, ": shard version ", header[1], ", but only version ", version,
               " can be read; make the shards again with `kiln prepare`");
    KILN_CHECK(header[2] >= 0, name, ": the header claims ", header[2], " tokens: it is damaged");
    info.num_tokens = uint64_t(header[2]);
    info.ours = header[3] == kTag;
    if (!info.ours) {
        KILN_CHECK(all_zero(header, 3), name, ": the header's words 3 to 255 are neither empty, as in llm.c's shards, ",
                   "nor tagged KILN: it is damaged or foreign; make the shards again with `kiln prepare`");
        return info;
    }
    KILN_CHECK(header_xxh3(header) == read_u64(header, kWordsUnderChecksum) && all_zero(header, kWordsUsed), name,
               ": the header does not match its checksum: it is damaged; make the shards again with `kiln prepare`");
    info.vocab_size = header[4];
    info.end_of_text = header[5];
    info.num_documents = header[6];
    info.payload_xxh3 = read_u64(header, 7);
    info.index = header[9];
    info.count = header[10];
    std::memcpy(info.tokenizer_sha256.data(), &header[11], info.tokenizer_sha256.size());
    KILN_CHECK(info.vocab_size > 0 && info.end_of_text >= -1 && info.end_of_text < info.vocab_size &&
                   info.num_documents >= 0 && info.index >= 0 && info.count >= 0 &&
                   (info.count == 0 || info.index < info.count),
               name, ": the header makes no sense (vocabulary ", info.vocab_size, ", end of text ", info.end_of_text,
               ", documents ", info.num_documents, ", shard ", info.index, " of ", info.count, ")");
    return info;
}

Header make_header(const ShardInfo& info) {
    Header header{};
    header[0] = info.token_bytes == 2 ? kMagic16 : kMagic32;
    header[1] = info.token_bytes == 2 ? kVersion16 : kVersion32;
    header[2] = int32_t(info.num_tokens);
    header[3] = kTag;
    header[4] = info.vocab_size;
    header[5] = info.end_of_text;
    header[6] = info.num_documents;
    std::memcpy(&header[7], &info.payload_xxh3, sizeof info.payload_xxh3);
    header[9] = info.index;
    header[10] = info.count;
    std::memcpy(&header[11], info.tokenizer_sha256.data(), info.tokenizer_sha256.size());
    const uint64_t checksum = header_xxh3(header);
    std::memcpy(&header[kWordsUnderChecksum], &checksum, sizeof checksum);
    return header;
}

}  // namespace

int shard_token_bytes(int vocab_size) {
    return vocab_size <= 65536 ? 2 : 4;
}

void pack_tokens(std::span<const int> tokens, int vocab_size, std::vector<unsigned char>& packed) {
    unsigned largest = 0;  // a loop without branches, which the compiler vectorizes
    for (const int token : tokens) largest = std::max(largest, unsigned(token));
    if (!tokens.empty() && largest >= unsigned(vocab_size)) {
        const size_t at = size_t(std::ranges::find(tokens, int(largest)) - tokens.begin());
        throw Error(concat("token ", tokens[at], " at ", at, " does not lie in a vocabulary of ", vocab_size));
    }
    const size_t before = packed.size(), token_bytes = size_t(shard_token_bytes(vocab_size));
    packed.resize(before + tokens.size() * token_bytes);
    unsigned char* const to = packed.data() + before;
    if (token_bytes == sizeof(uint16_t)) {
        std::copy(tokens.begin(), tokens.end(), reinterpret_cast<uint16_t*>(to));
    } else if (!tokens.empty()) {
        std::memcpy(to, tokens.data(), tokens.size_bytes());
    }
}

Shard::Shard(const fs::path& path) : path_(path) {
    const InputFile& file = file_.emplace(path);
    version_ = file.version();
    const uint64_t size = file.size();
    const std::string name = path.string();
    KILN_CHECK(size > 0, name, ": is empty; make the shards again with `kiln prepare`");
    KILN_CHECK(size >= kShardHeaderBytes, name, ": not a shard: ", size, " bytes are fewer than its header of ",
               kShardHeaderBytes);
    Header header;
    file.read_at(0, header.data(), kShardHeaderBytes);
    info_ = parse_header(header, name);
    const uint64_t expected = kShardHeaderBytes + info_.payload_bytes();
    KILN_CHECK(size == expected, name, ": ", size < expected ? "truncated" : "has bytes after its end", ": ",
               info_.num_tokens, " tokens of ", info_.token_bytes, " bytes make ", expected, " bytes, the file has ",
               size, "; copy it again, or make it again with `kiln prepare`");
    if (file.descriptors_are_scarce()) file_.reset();
}

InputFile Shard::reopen() const {
    InputFile file(path_);
    KILN_CHECK(file.version() == version_, path_.string(),
               ": was replaced or changed while it was in use; start again, with shards that do not change");
    return file;
}

void Shard::copy(uint64_t first, size_t n, int* out) const {
    KILN_CHECK(first <= info_.num_tokens && n <= info_.num_tokens - first, path_.string(), ": tokens ", first, " to ",
               first + n, " were asked for, but it has ", info_.num_tokens);
    std::optional<InputFile> again;
    const InputFile& file = file_ ? *file_ : again.emplace(reopen());
    const uint64_t offset = kShardHeaderBytes + first * uint64_t(info_.token_bytes);
    if (info_.token_bytes == 4) {
        file.read_at(offset, out,
                     n * sizeof(uint32_t));  // an id of 2^31 or more becomes negative: no vocabulary has it
        return;
    }
    std::array<uint16_t, 8192> part;
    for (size_t done = 0; done < n; done += part.size()) {
        const size_t tokens = std::min(n - done, part.size());
        file.read_at(offset + done * sizeof(uint16_t), part.data(), tokens * sizeof(uint16_t));
        std::copy_n(part.begin(), tokens, out + done);
    }
}

void Shard::verify(const std::stop_token& stop) const {
    if (!info_.ours) return;
    const InputFile file = reopen();
    std::vector<char> buffer(size_t(1) << 20);
    Xxh3 hash;
    const uint64_t end = kShardHeaderBytes + info_.payload_bytes();
    for (uint64_t at = kShardHeaderBytes; at < end; at += buffer.size()) {
        buffer.resize(std::min<uint64_t>(buffer.size(), end - at));
        file.read_at(at, buffer.data(), buffer.size());
        hash.update(buffer.data(), buffer.size());
        if (stop.stop_requested()) return;
    }
    KILN_CHECK(hash.digest() == info_.payload_xxh3, path_.string(),
               ": the tokens do not match their checksum: the file is damaged; copy it again, or make it again with "
               "`kiln prepare`");
}

fs::path partial_path(const fs::path& shard) {
    return shard.string() + ".partial";
}

ShardWriter::ShardWriter(const fs::path& path, int vocab_size, OutputFile out)
    : path_(path), vocab_size_(vocab_size), out_(std::move(out)) {
    KILN_CHECK(vocab_size > 0, path.string(), ": a vocabulary of ", vocab_size, " holds no tokens");
    buffer_.reserve(kBufferBytes);
}

ShardWriter::ShardWriter(const fs::path& path, int vocab_size)
    : ShardWriter(path, vocab_size, OutputFile(partial_path(path))) {
    const Header empty{};  // finish() writes the real one
    out_.write(empty.data(), kShardHeaderBytes);
}

ShardWriter ShardWriter::resume(const fs::path& path, int vocab_size, uint64_t tokens) {
    const fs::path partial = partial_path(path);
    if (!fs::exists(partial)) rename_file(path, partial);
    const uint64_t bytes = kShardHeaderBytes + tokens * uint64_t(shard_token_bytes(vocab_size));
    KILN_CHECK(fs::file_size(partial) >= bytes, partial.string(), ": ", fs::file_size(partial), " bytes where ", bytes,
               " were written; remove the directory and start over");
    fs::resize_file(partial, bytes);
    ShardWriter writer(path, vocab_size, OutputFile::append(partial));
    writer.num_tokens_ = tokens;
    InputFile file(partial);
    std::vector<char> buffer(kBufferBytes);
    file.read(buffer.data(), kShardHeaderBytes);
    for (size_t n; (n = file.read(buffer.data(), buffer.size())) > 0;) writer.hash_.update(buffer.data(), n);
    return writer;
}

void ShardWriter::append(std::span<const int> tokens) {
    std::vector<unsigned char> packed;
    try {
        pack_tokens(tokens, vocab_size_, packed);
    } catch (const Error& error) {
        throw Error(concat(path_.string(), ": ", error.what()));
    }
    append(packed);
}

void ShardWriter::append(std::span<const unsigned char> packed) {
    const size_t token_bytes = size_t(shard_token_bytes(vocab_size_));
    KILN_CHECK(packed.size() / token_bytes <= kMaxShardTokens - num_tokens_, path_.string(), ": more than ",
               kMaxShardTokens, " tokens, the most a shard holds");
    while (!packed.empty()) {
        if (buffer_.size() == kBufferBytes) flush();
        const auto part = packed.first(std::min(packed.size(), kBufferBytes - buffer_.size()));
        buffer_.insert(buffer_.end(), part.begin(), part.end());
        packed = packed.subspan(part.size());
        num_tokens_ += part.size() / token_bytes;
    }
}

void ShardWriter::flush() {
    hash_.update(buffer_.data(), buffer_.size());
    out_.write(buffer_.data(), buffer_.size());
    buffer_.clear();
    // Only whole pages: the kernel would wait for a page that is still being written.
    const uint64_t written = kShardHeaderBytes + num_tokens_ * uint64_t(shard_token_bytes(vocab_size_));
    out_.write_behind(written / kBehindBytes * kBehindBytes);
}

void ShardWriter::sync() {
    flush();
    out_.sync();
}

ShardInfo ShardWriter::finish(ShardInfo info) {
    KILN_CHECK(info.end_of_text >= -1 && info.end_of_text < vocab_size_, path_.string(), ": end of text ",
               info.end_of_text, " does not lie in a vocabulary of ", vocab_size_);
    flush();
    info.ours = true;
    info.vocab_size = vocab_size_;
    info.token_bytes = shard_token_bytes(vocab_size_);
    info.num_tokens = num_tokens_;
    info.payload_xxh3 = hash_.digest();
    const Header header = make_header(info);
    out_.write_at(0, header.data(), kShardHeaderBytes);
    out_.sync();
    out_.close();
    rename_file(partial_path(path_), path_);
    return info;
}

ShardInfo write_shard(const fs::path& path, std::span<const int> tokens, const ShardInfo& info) {
    ShardWriter writer(path, info.vocab_size);
    writer.append(tokens);
    return writer.finish(info);
}

void set_shard_count(const fs::path& path, int count) {
    ShardInfo info = Shard(path).info();
    KILN_CHECK(info.ours && info.index < count, path.string(), ": is not one of ", count,
               " shards made by `kiln prepare`");
    info.count = count;
    const Header header = make_header(info);
    OutputFile file = OutputFile::update(path);
    file.write_at(0, header.data(), kShardHeaderBytes);
    file.sync();
    file.close();
}

}  // namespace kiln
