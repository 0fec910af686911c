#include "tokenizer/token_trie.h"

#include <algorithm>

namespace kiln {

// Places the nodes of sorted tokens. Slots come in blocks of 256, for base ^ b stays within the block of base.
class TokenTrie::Builder {
public:
    using Tokens = std::vector<std::pair<std::string_view, int>>;
    Builder(std::vector<Node>& nodes, const Tokens& tokens) : nodes_(nodes), tokens_(tokens) {
        nodes_[0].parent = kNoParent;
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
            if (range.begin == range.end) continue;  // a leaf: the slots that its base 0 points to are others' children
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
        // Only children fit into any block; the slots that brothers need are seldom free in an old one.
        constexpr size_t kBlocksTried = 4;
        const size_t blocks = nodes_.size() / 256;
        while (first_free_ < blocks * 256 && nodes_[first_free_].parent != kFree) ++first_free_;
        size_t slot = labels_.size() == 1 ? first_free_ : (blocks - std::min(blocks, kBlocksTried)) * 256;
        for (;; ++slot) {  // for the first child
            if (slot == nodes_.size()) nodes_.resize(nodes_.size() + 256);
            const uint32_t base = static_cast<uint32_t>(slot) ^ labels_[0].first;
            const auto is_free = [&](const auto& label) { return nodes_[base ^ label.first].parent == kFree; };
            if (!std::all_of(labels_.begin(), labels_.end(), is_free)) continue;
            for (const auto& label : labels_) nodes_[base ^ label.first].parent = parent;
            return base;
        }
    }

    std::vector<Node>& nodes_;
    const Tokens& tokens_;
    std::vector<std::pair<unsigned char, size_t>> labels_;  // of the children, and where their tokens begin
    size_t first_free_ = 0;                                 // no slot before it is free
};

TokenTrie::TokenTrie(std::vector<std::pair<std::string_view, int>> tokens) {
    std::sort(tokens.begin(), tokens.end());
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
