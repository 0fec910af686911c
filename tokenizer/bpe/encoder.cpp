#include "tokenizer/bpe/encoder.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <queue>

#include "cpu_reference/interface/error.h"
#include "tokenizer/bpe/hash.h"

namespace kiln {
namespace {

// Up to this length, scanning all pairs is faster than keeping a heap.
constexpr size_t kShortWord = 64;
constexpr size_t kMaxCachedBytes = 16;           // longer words are too rare to be cached
constexpr size_t kCacheSlots = size_t(1) << 15;  // 1 MB, like kPairSlots: both stay in a core's L2 cache
constexpr size_t kLongToken = 256;               // walk() does not handle longer tokens
constexpr size_t kPairSlots = size_t(1) << 17;
constexpr uint64_t kUnknownPair = ~uint64_t(0) - 1;

// The length of the character that starts with this byte of valid UTF-8.
size_t utf8_length(unsigned char lead) {
    return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

// Merges of equal rank are ordered by their places in the text, so the ranks alone do not tell how a token is built.
bool different_tokens_of_one_rank(const BpeVocabulary& vocabulary) {
    const auto result_of = [&](size_t merge) {
        const auto [left, right] = vocabulary.merges[merge];
        return vocabulary.tokens[left] + vocabulary.tokens[right];
    };
    for (size_t i = 1; i < vocabulary.ranks.size(); ++i) {
        if (vocabulary.ranks[i] == vocabulary.ranks[i - 1] && result_of(i) != result_of(i - 1)) return true;
    }
    return false;
}

}  // namespace

BpeModel::BpeModel(const BpeVocabulary& vocabulary, const std::vector<bool>& is_text, const std::string& name)
    : vocabulary_(vocabulary) {
    const auto& tokens = vocabulary.tokens;
    std::vector<std::pair<std::string_view, int>> texts;
    byte_ids_.fill(-1);
    for (size_t id = 0; id < tokens.size(); ++id) {
        if (!is_text[id]) continue;
        texts.emplace_back(tokens[id], static_cast<int>(id));
        longest_token_ = std::max(longest_token_, tokens[id].size());
        if (tokens[id].size() == 1) byte_ids_[static_cast<unsigned char>(tokens[id][0])] = static_cast<int>(id);
    }
    std::sort(texts.begin(), texts.end());
    for (size_t i = 1; i < texts.size(); ++i) {
        KILN_CHECK(texts[i - 1].first != texts[i].first, name, ": ids ", texts[i - 1].second, " and ", texts[i].second,
                   " stand for the same bytes");
    }
    trie_ = TokenTrie(texts);

    slots_.resize(std::bit_ceil(std::max<size_t>(16, 2 * vocabulary.merges.size() + 1)));
    const size_t mask = slots_.size() - 1;
    std::string merged;
    for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
        const auto [left, right] = vocabulary.merges[rank];
        merged = tokens[left];
        merged += tokens[right];
        const int result = trie_.find(merged);
        KILN_CHECK(result >= 0, name, ": merge ", rank, " joins tokens ", left, " and ", right,
                   " to one that is not in the vocabulary, or that spells no bytes");
        const uint64_t key = pair_key(left, right);
        size_t slot = pair_slot(key, mask);
        while (slots_[slot].merge.rank != kNone && slots_[slot].key != key) slot = (slot + 1) & mask;
        KILN_CHECK(slots_[slot].merge.rank == kNone, name, ": merge ", rank, " of tokens ", left, " and ", right,
                   " repeats merge ", slots_[slot].merge.rank);
        slots_[slot] = {key, {vocabulary.ranks.empty() ? static_cast<uint32_t>(rank) : vocabulary.ranks[rank], result}};
    }
    byte_merges_.resize(256 * 256);
    for (int left = 0; left < 256; ++left) {
        for (int right = 0; right < 256; ++right) {
            if (byte_ids_[left] >= 0 && byte_ids_[right] >= 0) {
                byte_merges_[left * 256 + right] = find_merge(byte_ids_[left], byte_ids_[right]);
            }
        }
    }

    derivations_.resize(tokens.size());
    for (const auto& [text, id] : texts) {
        if (text.size() == 1 || (vocabulary.of_characters && text.size() == utf8_length(text[0]))) {
            derivations_[id].born = 0;
        }
    }
    if (different_tokens_of_one_rank(vocabulary)) return;
    for (const auto& [left, right] : vocabulary.merges) {
        const Merge merge = find_merge(left, right);
        Derivation& result = derivations_[merge.id];
        const bool parts_known = derivations_[left].born != kNone && derivations_[right].born != kNone;
        if (result.born == kNone && parts_known && never_merge(left, right, merge.rank)) {
            result = {left, right, merge.rank + 1};
        }
    }
}

std::optional<bool> BpeModel::stay_apart(int left, int right) const {
    if (derivations_[left].born == kNone || derivations_[right].born == kNone) return std::nullopt;
    return never_merge(left, right, kNone);
}

// Undoes the merges of two tokens step by step, the latest first. At every step, the symbols next to the border are the
// last part of the left token and the first part of the right one. The two would have merged if their merge had a lower
// rank than the merges that used them up (`left_used_at`, `right_used_at`; `limit` at first). Among equal ranks, the
// leftmost merge goes first.
bool BpeModel::never_merge(int left, int right, uint32_t limit) const {
    uint32_t left_used_at = limit, right_used_at = limit;
    for (;;) {
        const uint32_t rank = find_merge(left, right).rank;
        if (rank < left_used_at && rank <= right_used_at && rank != kNone) return false;
        const Derivation &of_left = derivations_[left], &of_right = derivations_[right];
        if (of_left.born == 0 && of_right.born == 0) return true;
        if (of_right.born >= of_left.born) {
            right_used_at = of_right.born - 1;
            right = of_right.left;
        } else {
            left_used_at = of_left.born - 1;
            left = of_left.right;
        }
    }
}

BpeModel::Merge BpeModel::find_merge(int left, int right) const {
    const uint64_t key = pair_key(left, right);
    const size_t mask = slots_.size() - 1;
    for (size_t slot = pair_slot(key, mask);; slot = (slot + 1) & mask) {
        const Slot& candidate = slots_[slot];
        if (candidate.merge.rank == kNone || candidate.key == key) return candidate.merge;
    }
}

void BpeModel::start(std::string_view word, std::vector<int>& ids) const {
    ids.clear();
    if (!vocabulary_.of_characters) {
        for (const char byte : word) ids.push_back(byte_id(byte));
        return;
    }
    for (size_t i = 0; i < word.size(); i += utf8_length(word[i])) {
        const std::string_view character = word.substr(i, utf8_length(word[i]));
        const int id = trie_.find(character);
        KILN_CHECK(id >= 0, "the vocabulary has no token for the character \"", character, "\"");
        ids.push_back(id);
    }
}

int BpeModel::byte_id(unsigned char byte) const {
    const int id = byte_ids_[byte];
    KILN_CHECK(id >= 0, "the vocabulary has no token for byte ", int(byte),
               ", which the text holds; train the tokenizer on an alphabet of all 256 bytes");
    return id;
}

BpeEncoder::BpeEncoder(const BpeModel& model)
    : model_(model), cache_(kCacheSlots), known_pairs_(kPairSlots, kUnknownPair) {}

void BpeEncoder::encode(std::string_view word, std::vector<int>& ids) {
    const size_t n = word.size();
    if (n > kMaxCachedBytes) {
        encode_uncached(word, ids);
        return;
    }
    const auto load = [&word](size_t at, auto bytes) {
        std::memcpy(&bytes, word.data() + at, sizeof bytes);
        return uint64_t(bytes);
    };
    uint64_t first, last;
    if (n >= 8) {
        first = load(0, uint64_t());
        last = load(n - 8, uint64_t());
    } else if (n >= 4) {
        first = load(0, uint32_t());
        last = load(n - 4, uint32_t());
    } else if (n >= 1) {
        first = load(0, uint8_t()) | load(n / 2, uint8_t()) << 8;
        last = load(n - 1, uint8_t());
    } else {
        return;
    }
    CacheEntry& entry = cache_[hash_words(first ^ n, last) & (kCacheSlots - 1)];
    if (entry.first == first && entry.last == last && entry.bytes == n) {
        for (int i = 0; i < entry.num_ids; ++i) ids.push_back(entry.ids[i]);
        return;
    }
    const size_t before = ids.size();
    encode_uncached(word, ids);
    const size_t num_ids = ids.size() - before;
    if (num_ids > std::size(entry.ids)) return;
    entry = {first, last, {}, static_cast<uint8_t>(n), static_cast<uint8_t>(num_ids)};
    std::copy(ids.begin() + static_cast<ptrdiff_t>(before), ids.end(), entry.ids);
}

void BpeEncoder::encode_uncached(std::string_view word, std::vector<int>& ids) {
    if (model_.vocabulary().ignore_merges) {
        if (const int whole = model_.trie().find(word); whole >= 0) {
            ids.push_back(whole);
            return;
        }
    }
    if (model_.longest_token() <= kLongToken) {
        walk(word, ids);
    } else {
        merge_long(word, ids);  // a step of the walk costs as much as the longest token
    }
}

void BpeEncoder::walk(std::string_view word, std::vector<int>& ids) {
    KILN_CHECK(word.size() < (size_t(1) << 31), "a word of ", word.size(), " bytes is too long");
    steps_.clear();
    wrong_.clear();
    const auto is_wrong = [this](size_t end) { return end < wrong_.size() && wrong_[end]; };
    size_t position = 0;
    size_t limit = word.size();  // the longest that the next token may be
    while (position < word.size()) {
        choices_.clear();
        model_.trie().for_each_prefix(word.substr(position, limit), [&](int id, size_t bytes) {
            choices_.push_back({id, static_cast<uint32_t>(position + bytes)});
        });
        const int before = steps_.empty() ? -1 : steps_.back().id;
        const bool more = limit >= 2;
        limit = word.size();
        while (!choices_.empty() && (is_wrong(choices_.back().end) || !is_encoding(before, choices_.back().id))) {
            choices_.pop_back();
        }
        if (!choices_.empty()) {
            steps_.push_back(choices_.back());
            position = choices_.back().end;
            continue;
        }
        if (more && !model_.vocabulary().of_characters)
            model_.byte_id(word[position]);  // throws if the byte has no token
        KILN_CHECK(!steps_.empty(), "a word of ", word.size(), " bytes has no encoding");
        wrong_.resize(word.size() + 1);
        wrong_[position] = true;
        const size_t end = position;
        steps_.pop_back();
        position = steps_.empty() ? 0 : steps_.back().end;
        limit = end - position - 1;
    }
    for (const Step& step : steps_) ids.push_back(step.id);
}

bool BpeEncoder::is_encoding(int left, int right) {
    if (left < 0 && model_.is_own_encoding(right)) return true;
    const uint64_t key = (uint64_t(left + 1) << 31 | uint64_t(right)) << 1;
    uint64_t& known = known_pairs_[pair_slot(key, kPairSlots - 1)];
    if ((known & ~uint64_t(1)) == key) return known & 1;
    const auto remember = [&](bool result) {
        known = key | uint64_t(result);
        return result;
    };
    if (const auto apart = left < 0 ? std::nullopt : model_.stay_apart(left, right)) return remember(*apart);
    const auto& tokens = model_.vocabulary().tokens;
    bytes_.clear();
    if (left >= 0) bytes_ = tokens[left];
    bytes_ += tokens[right];
    merged_.clear();
    if (bytes_.size() <= kShortWord) {
        merge_short(bytes_, merged_);
    } else {
        merge_long(bytes_, merged_);
    }
    return remember(merged_.back() == right &&
                    (left < 0 ? merged_.size() == 1 : merged_.size() == 2 && merged_[0] == left));
}

// Merges the leftmost pair of the lowest rank until no pair merges. O(n^2) for n <= kShortWord.
void BpeEncoder::merge_short(std::string_view word, std::vector<int>& ids) {
    model_.start(word, symbols_);
    size_t n = symbols_.size();
    merges_.resize(n);
    const bool bytes = !model_.vocabulary().of_characters;
    for (size_t i = 0; i + 1 < n; ++i) {
        merges_[i] =
            bytes ? model_.find_byte_merge(word[i], word[i + 1]) : model_.find_merge(symbols_[i], symbols_[i + 1]);
    }
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; ++i) {
            if (merges_[i].rank < merges_[best].rank) best = i;
        }
        if (merges_[best].rank == BpeModel::kNone) break;
        symbols_[best] = merges_[best].id;
        std::copy(symbols_.begin() + best + 2, symbols_.begin() + n, symbols_.begin() + best + 1);
        std::copy(merges_.begin() + best + 1, merges_.begin() + (n - 1), merges_.begin() + best);
        --n;
        if (best + 1 < n) merges_[best] = model_.find_merge(symbols_[best], symbols_[best + 1]);
        if (best > 0) merges_[best - 1] = model_.find_merge(symbols_[best - 1], symbols_[best]);
    }
    ids.insert(ids.end(), symbols_.begin(), symbols_.begin() + n);
}

void BpeEncoder::merge_long(std::string_view word, std::vector<int>& ids) {
    model_.start(word, symbols_);
    merge(symbols_, 1, ids, nullptr);
}

// In O(n log n), with a linked list of symbols and a heap of pairs. Outdated pairs are skipped.
void BpeEncoder::merge(std::span<const int> start, size_t at_least, std::vector<int>& ids,
                       std::vector<size_t>* ends) const {
    if (start.empty()) return;
    KILN_CHECK(start.size() < (size_t(1) << 31), "a word of ", start.size(), " symbols is too long");
    struct Symbol {
        int id;  // -1: merged into its left neighbour
        int previous, next;
    };
    struct Candidate {
        uint32_t rank;
        int position;
        bool operator<(const Candidate& other) const {  // std::priority_queue puts the largest first
            return rank != other.rank ? rank > other.rank : position > other.position;
        }
    };
    const int n = static_cast<int>(start.size());
    std::vector<Symbol> symbols(n);
    for (int i = 0; i < n; ++i) symbols[i] = {start[i], i - 1, i + 1 < n ? i + 1 : -1};

    const auto merge_at = [&](int i) {
        if (i < 0 || symbols[i].next < 0) return BpeModel::Merge{};
        return model_.find_merge(symbols[i].id, symbols[symbols[i].next].id);
    };
    std::vector<Candidate> first;
    for (int i = 0; i < n; ++i) {
        const uint32_t rank = merge_at(i).rank;
        if (rank != BpeModel::kNone) first.push_back({rank, i});
    }
    std::priority_queue<Candidate> candidates(std::less<Candidate>(), std::move(first));
    for (size_t left_over = start.size(); left_over > at_least && !candidates.empty();) {
        const auto [rank, position] = candidates.top();
        candidates.pop();
        if (symbols[position].id < 0) continue;
        // An entry with another rank is outdated. If another pair here has the same rank now, it is merged correctly.
        const BpeModel::Merge merge = merge_at(position);
        if (merge.rank != rank) continue;
        Symbol& left = symbols[position];
        Symbol& right = symbols[left.next];
        left.id = merge.id;
        left.next = right.next;
        if (right.next >= 0) symbols[right.next].previous = position;
        right.id = -1;
        --left_over;
        for (const int changed : {left.previous, position}) {
            const uint32_t changed_rank = merge_at(changed).rank;
            if (changed_rank != BpeModel::kNone) candidates.push({changed_rank, changed});
        }
    }
    for (int i = 0; i >= 0; i = symbols[i].next) {
        ids.push_back(symbols[i].id);
        if (ends) ends->push_back(static_cast<size_t>(symbols[i].next < 0 ? n : symbols[i].next));
    }
}

}  // namespace kiln
