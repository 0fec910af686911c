#include "tokenizer/bpe/token_trie.h"

#include <algorithm>
#include <bit>

namespace kiln {

// Places the nodes of sorted tokens. Slots are added in blocks of 256, since base ^ b lies in the same block as base.
class TokenTrie::Builder {
public:
    using Tokens = std::vector<std::pair<std::string_view, int>>;
    Builder(std::vector<Node>& nodes, const Tokens& tokens) : nodes_(nodes), tokens_(tokens) {
        free_.resize(nodes_.size() / 64, ~uint64_t(0));
        take(0, kNoParent);
        struct Range {
            size_t begin, end, depth;
            uint32_t node;
        };
        std::vector<Range> to_do = {{0, tokens.size(), 0, 0}};
        while (!to_do.empty()) {
            Range range = to_do.back();
            to_do.pop_back();
            if (range.begin < range.end && tokens_[range.begin].first.size() == range.depth) {
                nodes_[range.node].token = tokens_[range.begin++].second;
            }
            if (range.begin == range.end) continue;  // a leaf; the slots that its base 0 points to have other parents
            labels_.clear();
            for (size_t i = range.begin; i < range.end; ++i) {
                const auto label = static_cast<unsigned char>(tokens_[i].first[range.depth]);
                if (labels_.empty() || labels_.back().first != label) labels_.emplace_back(label, i);
            }
            const uint32_t base = place(range.node);
            nodes_[range.node].base = base;
            for (size_t k = 0; k < labels_.size(); ++k) {
                const size_t end = k + 1 < labels_.size() ? labels_[k + 1].second : range.end;
                to_do.push_back({labels_[k].second, end, range.depth + 1, base ^ labels_[k].first});
            }
        }
    }

private:
    // A base whose slots for all labels_ are free; takes them for the children of `parent`.
    uint32_t place(uint32_t parent) {
        // A single child fits into any block; the slots that several children need are seldom free in an old one.
        constexpr size_t kBlocksTried = 4;
        const size_t blocks = nodes_.size() / 256;
        first_free_ = next_free(first_free_);
        size_t slot = labels_.size() == 1 ? first_free_ : (blocks - std::min(blocks, kBlocksTried)) * 256;
        for (;; ++slot) {  // slot of the first child
            slot = next_free(slot);
            if (slot == nodes_.size()) add_block();
            const uint32_t base = static_cast<uint32_t>(slot) ^ labels_[0].first;
            const auto is_free = [&](const auto& label) { return free(base ^ label.first); };
            if (!std::all_of(labels_.begin() + 1, labels_.end(), is_free)) continue;
            for (const auto& label : labels_) take(base ^ label.first, parent);
            return base;
        }
    }
    void add_block() {
        nodes_.resize(nodes_.size() + 256);
        free_.resize(nodes_.size() / 64, ~uint64_t(0));
    }
    void take(uint32_t slot, uint32_t parent) {
        nodes_[slot].parent = parent;
        free_[slot / 64] &= ~(uint64_t(1) << slot % 64);
    }
    bool free(uint32_t slot) const { return free_[slot / 64] >> slot % 64 & 1; }
    // The first free slot from `slot` on; nodes_.size() if there is none.
    size_t next_free(size_t slot) const {
        if (slot == nodes_.size()) return slot;
        uint64_t word = free_[slot / 64] & ~uint64_t(0) << slot % 64;
        for (slot /= 64; word == 0; word = free_[slot]) {
            if (++slot == free_.size()) return nodes_.size();
        }
        return slot * 64 + size_t(std::countr_zero(word));
    }

    std::vector<Node>& nodes_;
    const Tokens& tokens_;
    std::vector<std::pair<unsigned char, size_t>> labels_;  // of the children, and the index of their first token
    std::vector<uint64_t> free_;                            // one bit for each slot
    size_t first_free_ = 0;                                 // no earlier slot is free
};

TokenTrie::TokenTrie(std::vector<std::pair<std::string_view, int>> tokens) {
    if (!std::is_sorted(tokens.begin(), tokens.end())) std::sort(tokens.begin(), tokens.end());
    Builder(nodes_, tokens);
    nodes_.shrink_to_fit();
}

int TokenTrie::find(std::string_view token) const {
    int found = -1;
    for_each_prefix(token, [&](int id, size_t bytes) {
        if (bytes == token.size()) found = id;
    });
    return found;
}

}  // namespace kiln
