#pragma once
// Finds all tokens that a text starts with, in one pass over its bytes.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace kiln {

// A double-array trie: the child of a node for byte b is in slot base ^ b, and refers to its parent. (J.-I. Aoe, "An
// Efficient Digital Search Algorithm by Using a Double-Array Structure", 1989.)
class TokenTrie {
public:
    TokenTrie() = default;
    // The bytes and ids of tokens. No token may be empty or occur twice.
    explicit TokenTrie(std::vector<std::pair<std::string_view, int>> tokens);

    // Calls visit(int id, size_t bytes) for every token that `text` starts with, shortest first.
    template <class Visit>
    void for_each_prefix(std::string_view text, Visit&& visit) const {
        uint32_t node = 0;
        for (size_t i = 0; i < text.size(); ++i) {
            const uint32_t child = nodes_[node].base ^ static_cast<unsigned char>(text[i]);
            if (nodes_[child].parent != node) return;
            node = child;
            if (nodes_[node].token >= 0) visit(static_cast<int>(nodes_[node].token), i + 1);
        }
    }
    int find(std::string_view token) const;  // its id, or -1

private:
    static constexpr uint32_t kFree = ~0u, kNoParent = ~0u - 1;
    struct Node {
        uint32_t base = 0;
        uint32_t parent = kFree;
        int32_t token = -1;
    };
    class Builder;
    std::vector<Node> nodes_ = std::vector<Node>(256);  // a multiple of 256 slots, so that base ^ b exists
};

}  // namespace kiln
