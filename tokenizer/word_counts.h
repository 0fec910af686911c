#pragma once
// How often each piece of the training text occurs.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kiln {

class WordCounts {
public:
    WordCounts();
    void add(std::string_view word, int64_t count = 1);
    size_t size() const { return words_; }                // different words
    size_t total_bytes() const { return bytes_.size(); }  // of the different words
    template <class Visit>
    void for_each(Visit&& visit) const {  // visit(std::string_view word, int64_t count), in no particular order
        for (const Entry& e : table_) {
            if (e.count != 0) visit(std::string_view(bytes_.data() + e.at, e.bytes), e.count);
        }
    }

private:
    struct Entry {
        uint64_t at = 0;  // in bytes_
        uint32_t bytes = 0;
        uint32_t hash_high = 0;  // spares most comparisons, and the rehashing when the table grows
        int64_t count = 0;       // 0: empty
    };
    void grow();

    std::vector<Entry> table_;  // open addressing, at most half full
    size_t words_ = 0;
    std::string bytes_;
};

}  // namespace kiln
