#include "tokenizer/bpe_trainer.h"

#include <algorithm>
#include <cstring>
#include <queue>
#include <unordered_set>

#include "cpu_reference/error.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/file.h"
#include "tokenizer/hash.h"
#include "tokenizer/tokenizer_parts.h"
#include "tokenizer/utf8.h"

namespace kiln {
namespace {

// The different words of the text as symbols that merge in place.
//
// All words lie in one array, one cell a byte, kSeparator between words. A token of n cells holds its id in its first
// cell; its other cells are dead, and the second and the last of them hold n, so that both neighbours of a token are
// found in O(1) without a list.
class SymbolArray {
public:
    static constexpr uint32_t kDead = 1u << 31;
    static constexpr uint32_t kSeparator = kDead - 1;  // larger than any id

    SymbolArray(const WordCounts& words, const std::array<int, 256>& byte_ids) {
        const size_t cells = words.total_bytes() + words.size() + 1;
        KILN_CHECK(cells < kDead, "the different words of the training text take ", cells,
                   " bytes, the limit is 2147483647; train on less text");
        cells_.reserve(cells);
        cells_.push_back(kSeparator);
        words.for_each([&](std::string_view word, int64_t count) {
            if (word.size() < 2) return;  // nothing to merge
            starts_.push_back(static_cast<uint32_t>(cells_.size()));
            counts_.push_back(count);
            for (const char c : word) cells_.push_back(byte_ids[static_cast<unsigned char>(c)]);
            cells_.push_back(kSeparator);
        });
        size_t word = 0;
        for (size_t cell = 0; cell < cells_.size(); cell += kStride) {
            while (word + 1 < starts_.size() && starts_[word + 1] <= cell) ++word;
            word_at_stride_.push_back(static_cast<uint32_t>(word));
        }
    }

    size_t size() const { return cells_.size(); }
    bool is_token(uint32_t position) const { return cells_[position] < kSeparator; }
    uint32_t id(uint32_t position) const { return cells_[position]; }  // or kSeparator, or kDead | ...
    uint32_t next(uint32_t position) const {
        const uint32_t after = cells_[position + 1];
        return position + (after & kDead ? after & ~kDead : 1);
    }
    uint32_t previous(uint32_t position) const {
        const uint32_t before = cells_[position - 1];
        return position - (before & kDead ? before & ~kDead : 1);
    }
    // How often the word of this cell occurs in the text.
    int64_t count(uint32_t position) const {
        size_t word = word_at_stride_[position / kStride];
        while (word + 1 < starts_.size() && starts_[word + 1] <= position) ++word;
        return counts_[word];
    }
    // The token at `position` and the one at `right`, which ends before `end`, become one.
    void merge(uint32_t position, uint32_t right, uint32_t end, uint32_t id) {
        cells_[right] = kDead;
        cells_[position] = id;
        cells_[position + 1] = kDead | (end - position);
        cells_[end - 1] = kDead | (end - position);
    }

private:
    static constexpr size_t kStride = 16;
    std::vector<uint32_t> cells_;
    std::vector<uint32_t> starts_;          // first cell of each word
    std::vector<int64_t> counts_;           // of each word
    std::vector<uint32_t> word_at_stride_;  // word that holds cell i * kStride, or the one before
};

// Neighbouring tokens, by their two ids.
struct Pair {
    uint32_t left, right;
    int64_t count = 0;
    std::vector<uint32_t> positions;  // ascending; some no longer hold the pair
};

class PairTable {
public:
    PairTable() : keys_(size_t(1) << 16, kEmpty), indices_(keys_.size()) {}

    uint32_t find_or_add(uint32_t left, uint32_t right) {
        const uint64_t key = pair_key(left, right);
        const size_t mask = keys_.size() - 1;
        size_t slot = pair_slot(key, mask);
        for (; keys_[slot] != kEmpty; slot = (slot + 1) & mask) {
            if (keys_[slot] == key) return indices_[slot];
        }
        const auto index = static_cast<uint32_t>(pairs_.size());
        keys_[slot] = key;
        indices_[slot] = index;
        pairs_.push_back({left, right, 0, {}});
        if (2 * pairs_.size() > keys_.size()) grow();
        return index;
    }
    Pair& operator[](uint32_t index) { return pairs_[index]; }
    size_t size() const { return pairs_.size(); }

private:
    static constexpr uint64_t kEmpty = ~uint64_t(0);  // no pair: ids stay below 2^31
    void grow() {
        keys_.assign(keys_.size() * 2, kEmpty);
        indices_.assign(keys_.size(), 0);
        const size_t mask = keys_.size() - 1;
        for (size_t i = 0; i < pairs_.size(); ++i) {
            const uint64_t key = pair_key(pairs_[i].left, pairs_[i].right);
            size_t slot = pair_slot(key, mask);
            while (keys_[slot] != kEmpty) slot = (slot + 1) & mask;
            keys_[slot] = key;
            indices_[slot] = static_cast<uint32_t>(i);
        }
    }
    std::vector<uint64_t> keys_;
    std::vector<uint32_t> indices_;
    std::vector<Pair> pairs_;
};

// The most frequent pair first; of equally frequent ones that of the smallest ids. Counts in the queue may be outdated.
struct QueueEntry {
    int64_t count;
    uint32_t left, right, pair;
    bool operator<(const QueueEntry& other) const {
        if (count != other.count) return count < other.count;
        if (left != other.left) return left > other.left;
        return right > other.right;
    }
};

class MergeLearner {
public:
    MergeLearner(const WordCounts& words, const std::array<int, 256>& byte_ids) : symbols_(words, byte_ids) {
        // Lists of positions grow to their exact size at once: doubling them would cost half as much memory again.
        std::vector<uint32_t> occurrences;
        for_each_pair([&](uint32_t position, uint32_t pair) {
            (void)position;
            if (occurrences.size() <= pair) occurrences.resize(pair + 1);
            ++occurrences[pair];
        });
        for (size_t i = 0; i < occurrences.size(); ++i) pairs_[i].positions.reserve(occurrences[i]);
        for_each_pair([&](uint32_t position, uint32_t pair) {
            pairs_[pair].count += symbols_.count(position);
            pairs_[pair].positions.push_back(position);
        });
        for (size_t i = 0; i < pairs_.size(); ++i) enqueue(i);
    }

    // The next pair to merge, or nothing when all that is left occurs less than `min_count` times.
    std::optional<QueueEntry> pop(int64_t min_count) {
        while (!queue_.empty()) {
            QueueEntry best = queue_.top();
            queue_.pop();
            const int64_t count = pairs_[best.pair].count;
            if (count == best.count)
                return count >= std::max<int64_t>(1, min_count) ? std::optional(best) : std::nullopt;
            best.count = count;
            if (count > 0) queue_.push(best);
        }
        return std::nullopt;
    }

    // Replaces the pair by `merged` everywhere, left to right, and counts the pairs this breaks and makes.
    void merge(const QueueEntry& entry, uint32_t merged) {
        const uint32_t a = entry.left, b = entry.right;
        const std::vector<uint32_t> positions = std::move(pairs_[entry.pair].positions);
        pairs_[entry.pair].positions = {};
        made_.clear();
        for (const uint32_t position : positions) {
            if (symbols_.id(position) != a) continue;  // merged with something else meanwhile
            const uint32_t right = symbols_.next(position);
            if (symbols_.id(right) != b) continue;
            const uint32_t end = symbols_.next(right);
            const int64_t count = symbols_.count(position);
            if (symbols_.id(position - 1) != SymbolArray::kSeparator) {
                const uint32_t before = symbols_.previous(position);
                lose(symbols_.id(before), a, count);
                gain(symbols_.id(before), merged, count, before);
            }
            if (symbols_.id(end) != SymbolArray::kSeparator) {
                lose(b, symbols_.id(end), count);
                gain(merged, symbols_.id(end), count, position);
            }
            symbols_.merge(position, right, end, merged);
        }
        for (const uint32_t pair : made_) enqueue(pair);
    }

private:
    template <class Visit>
    void for_each_pair(Visit&& visit) {
        for (uint32_t i = 0; i + 1 < symbols_.size(); ++i) {
            if (symbols_.is_token(i) && symbols_.is_token(i + 1)) {
                visit(i, pairs_.find_or_add(symbols_.id(i), symbols_.id(i + 1)));
            }
        }
    }
    void lose(uint32_t left, uint32_t right, int64_t count) { pairs_[pairs_.find_or_add(left, right)].count -= count; }
    void gain(uint32_t left, uint32_t right, int64_t count, uint32_t position) {
        const uint32_t index = pairs_.find_or_add(left, right);
        Pair& pair = pairs_[index];
        if (pair.positions.empty()) made_.push_back(index);
        pair.count += count;
        pair.positions.push_back(position);
    }
    void enqueue(size_t index) {
        const Pair& pair = pairs_[index];
        if (pair.count > 0) queue_.push({pair.count, pair.left, pair.right, static_cast<uint32_t>(index)});
    }

    SymbolArray symbols_;
    PairTable pairs_;
    std::priority_queue<QueueEntry> queue_;
    std::vector<uint32_t> made_;  // pairs that the merge under way has brought about
};

}  // namespace

BpeTrainer::BpeTrainer(BpeTrainerOptions options)
    : options_(std::move(options)),
      normalizer_(options_.normalizer),
      pre_tokenizer_(PreTokenizer::byte_level(options_.splitter, options_.add_prefix_space)) {
    const size_t least = options_.special_tokens.size() + 256;
    if (options_.vocab_size < 0 || static_cast<size_t>(options_.vocab_size) < least) {
        throw UsageError(concat("a vocabulary of ", options_.vocab_size, " tokens is too small: ",
                                options_.special_tokens.size(), " special tokens and 256 bytes need ", least));
    }
    std::unordered_set<std::string_view> seen;
    for (const std::string& token : options_.special_tokens) {
        if (token.empty()) throw UsageError("a special token is empty");
        if (find_invalid_utf8(token)) throw UsageError(concat("the special token \"", token, "\" is not UTF-8"));
        if (!seen.insert(token).second) throw UsageError(concat("the special token \"", token, "\" is given twice"));
        if (ByteLevel().unspell(token).value_or("").size() == 1) {
            throw UsageError(concat("the special token \"", token,
                                    "\" is the name of a byte in tokenizer.json; use a longer one, such as <|", token,
                                    "|>"));
        }
    }
}

void BpeTrainer::add_text(std::string_view text, const std::string& name) {
    const auto invalid = find_invalid_utf8(text);
    KILN_CHECK(!invalid, name, ": text that is not UTF-8, first at byte ", invalid.value_or(0),
               "; convert it (iconv -f LATIN1 -t UTF-8, say) or leave the file out");
    std::string normal_form, with_space;
    for (size_t start = 0; start < text.size();) {
        const size_t newline = text.find('\n', start);
        const size_t end = newline == std::string_view::npos ? text.size() : newline + 1;
        const std::string_view line = normalizer_.normalize(text.substr(start, end - start), normal_form);
        pre_tokenizer_.split(line, false, with_space, [this](std::string_view word) { words_.add(word); });
        start = end;
    }
}

void BpeTrainer::add_file(const std::filesystem::path& path) {
    const MappedFile file(path);
    add_text(file.text(), path.string());
}

Tokenizer BpeTrainer::train() const {
    KILN_CHECK(words_.size() > 0, "there is no text to train a tokenizer on: every input is empty");
    TokenizerParts parts = TokenizerParts::byte_level(options_.normalizer, pre_tokenizer_);
    std::vector<std::string>& tokens = parts.vocabulary.tokens;
    const ByteLevel byte_level;

    std::unordered_set<std::string> special_spellings;
    for (const std::string& token : options_.special_tokens) {
        parts.added.push_back({.id = static_cast<int>(tokens.size()), .content = token, .special = true});
        tokens.push_back(token);
        special_spellings.insert(token);
    }
    std::array<int, 256> byte_ids;
    for (const unsigned char byte : byte_level.alphabet()) {
        byte_ids[byte] = static_cast<int>(tokens.size());
        tokens.emplace_back(1, static_cast<char>(byte));
    }

    MergeLearner learner(words_, byte_ids);
    while (tokens.size() < static_cast<size_t>(options_.vocab_size)) {
        const auto best = learner.pop(options_.min_frequency);
        if (!best) break;
        std::string merged = tokens[best->left] + tokens[best->right];
        // Hugging Face gives such a word the special token's id, so that plain text can spell a special token.
        KILN_CHECK(!special_spellings.contains(byte_level.spell(merged)), "the special token \"", merged,
                   "\" is a word of the training text; choose one that text does not hold, such as <|", merged, "|>");
        learner.merge(*best, static_cast<uint32_t>(tokens.size()));
        parts.vocabulary.merges.emplace_back(best->left, best->right);
        tokens.push_back(std::move(merged));
    }
    parts.is_text.assign(tokens.size(), true);
    for (const AddedToken& token : parts.added) parts.is_text[token.id] = false;
    return make_tokenizer(std::move(parts), "the trained tokenizer");
}

}  // namespace kiln
