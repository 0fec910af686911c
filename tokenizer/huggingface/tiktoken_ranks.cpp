// Reads tiktoken's rank files. Each line is a token: its bytes in base64, a space, and its rank, which is its id.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <optional>
#include <unordered_map>

#include "cpu_reference/interface/error.h"
#include "tokenizer/huggingface/parts.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {
namespace {

constexpr size_t kMaxTokenBytes = 512;  // published tokens have up to 128; last_merge() is quadratic

// Decodes base64 with its padding; returns false if the text is not base64.
bool decode_base64(std::string_view text, std::string& bytes) {
    static const std::array<int8_t, 256> kValues = [] {
        std::array<int8_t, 256> values;
        values.fill(-1);
        constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        for (size_t i = 0; i < digits.size(); ++i)
            values[static_cast<unsigned char>(digits[i])] = static_cast<int8_t>(i);
        return values;
    }();
    bytes.clear();
    if (text.empty() || text.size() % 4 != 0) return false;
    const size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
    uint32_t bits = 0;
    for (size_t i = 0; i < text.size() - padding; ++i) {
        const int value = kValues[static_cast<unsigned char>(text[i])];
        if (value < 0) return false;
        bits = bits << 6 | static_cast<uint32_t>(value);
        if (i % 4 != 0) bytes += static_cast<char>(bits >> (6 - 2 * (i % 4)));
    }
    return true;
}

std::vector<RankedToken> read_ranks(std::string_view text, const std::string& name) {
    std::vector<RankedToken> tokens;
    size_t number = 0;
    for (size_t start = 0; start < text.size();) {
        const size_t end = std::min(text.find('\n', start), text.size());
        std::string_view line = text.substr(start, end - start);
        start = end + 1;
        ++number;
        if (line.ends_with('\r')) line.remove_suffix(1);
        if (line.empty()) continue;
        const size_t space = std::min(line.find(' '), line.size());
        RankedToken token;
        const std::string_view rank = line.substr(std::min(space + 1, line.size()));
        const auto [stop, status] = std::from_chars(rank.data(), rank.data() + rank.size(), token.rank);
        KILN_CHECK(decode_base64(line.substr(0, space), token.bytes) && status == std::errc() &&
                       stop == rank.data() + rank.size() && token.rank >= 0,
                   name, ": line ", number,
                   ": must be a token's bytes in base64, a space and its rank, as in tiktoken's files");
        KILN_CHECK(token.bytes.size() <= kMaxTokenBytes, name, ": line ", number, ": a token of ", token.bytes.size(),
                   " bytes; at most ", kMaxTokenBytes, " are supported");
        tokens.push_back(std::move(token));
    }
    std::sort(tokens.begin(), tokens.end(), [](const auto& a, const auto& b) { return a.rank < b.rank; });
    for (size_t i = 1; i < tokens.size(); ++i) {
        KILN_CHECK(tokens[i - 1].rank != tokens[i].rank, name, ": rank ", tokens[i].rank, " occurs twice");
    }
    return tokens;
}

// tiktoken joins two neighbours if their bytes together are a token, the token of the lowest rank first. Before a token
// is joined, its bytes are merged in the same way as when they are alone. So only one of the ways to cut the token into
// two ever occurs, and it is the token's merge. These merges in the order of ranks give tiktoken's ids.
std::optional<std::pair<int, int>> last_merge(const RankedToken& token,
                                              const std::unordered_map<std::string_view, int>& by_bytes) {
    constexpr int kNone = INT32_MAX;
    const std::string_view bytes = token.bytes;
    std::vector<size_t> starts;  // of the parts, and the end of the last one
    for (size_t i = 0; i <= bytes.size(); ++i) starts.push_back(i);
    const auto id_of = [&](size_t first, size_t last) {  // of the parts first to last together
        const auto found = by_bytes.find(bytes.substr(starts[first], starts[last + 1] - starts[first]));
        return found == by_bytes.end() ? kNone : found->second;
    };
    std::vector<int> joined;  // by i: rank of parts i and i + 1 together
    for (size_t i = 0; i + 2 < starts.size(); ++i) joined.push_back(id_of(i, i + 1));
    while (joined.size() > 1) {
        const auto best = std::min_element(joined.begin(), joined.end());
        if (*best == kNone) break;
        const auto i = static_cast<size_t>(best - joined.begin());
        starts.erase(starts.begin() + static_cast<ptrdiff_t>(i + 1));
        joined.erase(best);
        if (i < joined.size()) joined[i] = id_of(i, i + 1);
        if (i > 0) joined[i - 1] = id_of(i - 1, i);
    }
    if (starts.size() != 3) return std::nullopt;
    return std::pair(id_of(0, 0), id_of(1, 1));
}

}  // namespace

TokenizerParts parse_tiktoken(std::string_view text, const std::string& name, PreTokenizerSequence pre_tokenizer,
                              const std::vector<SpecialToken>& special_tokens) {
    return parts_of_ranks(read_ranks(text, name), name, std::move(pre_tokenizer), special_tokens);
}

TokenizerParts parts_of_ranks(const std::vector<RankedToken>& ranked, const std::string& name,
                              PreTokenizerSequence pre_tokenizer, const std::vector<SpecialToken>& special_tokens) {
    KILN_CHECK(!ranked.empty(), name, ": holds no tokens");
    TokenizerParts parts = TokenizerParts::byte_level(NormalizerKind::kNone, std::move(pre_tokenizer));
    BpeVocabulary& vocabulary = parts.vocabulary;
    int last = ranked.back().rank;
    for (const SpecialToken& token : special_tokens) last = std::max(last, token.id);
    const size_t ids = static_cast<size_t>(last) + 1;
    KILN_CHECK(ids <= max_ids(ranked.size() + special_tokens.size()), name, ": holds ", ranked.size(),
               " tokens with ids up to ", last, "; that leaves too many ids without a token");
    vocabulary.tokens.resize(ids);
    parts.is_text.resize(ids);
    for (const RankedToken& token : ranked) {
        KILN_CHECK(token.bytes.size() <= kMaxTokenBytes, name, ": token ", token.rank, " has ", token.bytes.size(),
                   " bytes; at most ", kMaxTokenBytes, " are supported");
        vocabulary.tokens[token.rank] = token.bytes;
        parts.is_text[token.rank] = true;
    }
    for (const SpecialToken& token : special_tokens) {
        KILN_CHECK(token.id >= 0 && !token.content.empty(), name, ": the special token \"", token.content,
                   "\" with id ", token.id, ": it needs a text, and an id of 0 or more");
        KILN_CHECK(!find_invalid_utf8(token.content), name, ": the special token with id ", token.id, " is not UTF-8");
        KILN_CHECK(vocabulary.tokens[token.id].empty(), name, ": the special token \"", token.content, "\" has id ",
                   token.id, ", which is another token's");
        vocabulary.tokens[token.id] = token.content;
        parts.added.push_back({.id = token.id, .content = token.content, .special = true, .in_vocabulary = false});
    }
    std::sort(parts.added.begin(), parts.added.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
    // A token outside the vocabulary gets the next id when the file is read, so those with other ids are part of it.
    bool next = size_t(ranked.back().rank) + 1 == ranked.size();
    for (size_t i = 0; i < parts.added.size(); ++i) next = next && size_t(parts.added[i].id) == ranked.size() + i;
    for (AddedToken& token : parts.added) token.in_vocabulary = !next;

    std::unordered_map<std::string_view, int> by_bytes;
    by_bytes.reserve(ranked.size());
    for (const RankedToken& token : ranked) {
        KILN_CHECK(by_bytes.emplace(token.bytes, token.rank).second, name, ": the token of rank ", token.rank,
                   " occurs twice");
    }
    for (int byte = 0; byte < 256; ++byte) {
        const char text = static_cast<char>(byte);
        KILN_CHECK(by_bytes.contains(std::string_view(&text, 1)), name, ": byte ", byte,
                   " has no token; without all 256 bytes, some text cannot be encoded");
    }
    for (const RankedToken& token : ranked) {
        if (const auto halves = last_merge(token, by_bytes)) vocabulary.merges.push_back(*halves);
    }
    vocabulary.ignore_merges = true;
    return parts;
}

}  // namespace kiln
