#pragma once
// Counts how often each word of the training text occurs.
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kiln {

class WordCounts {
public:
    void add(std::string_view word, int64_t count = 1);
    // Moves the counts of `others` here, with one thread for each. Memory is freed part by part: if nearly all
    // words differ (Chinese without spaces), they are not in memory twice.
    void take(std::vector<WordCounts>& others);
    size_t size() const;         // different words
    size_t total_bytes() const;  // of the different words
    template <class Visit>
    void for_each(Visit&& visit) const {  // visit(std::string_view word, int64_t count), in no particular order
        for (const Part& part : parts_) part.for_each(visit);
    }

private:
    struct Entry {
        uint64_t at = 0;  // in Part::bytes
        uint32_t size = 0;
        uint32_t hash_high = 0;  // saves most comparisons, and rehashing when the table grows
        int64_t count = 0;       // 0: empty
    };
    // The words whose hashes have the same first bits. Parts are small, so that grow() copies little at a time. Threads
    // divide the work by parts.
    struct Part {
        std::vector<Entry> table;  // open addressing, at most half full
        size_t words = 0;
        std::string bytes;

        void add(std::string_view word, uint32_t hash_high, int64_t count);
        void grow();
        template <class Visit>
        void for_each(Visit&& visit) const {
            for (const Entry& e : table) {
                if (e.count != 0) visit(std::string_view(bytes.data() + e.at, e.size), e.count);
            }
        }
    };
    static constexpr int kPartBits = 6;
    std::array<Part, 1 << kPartBits> parts_;
};

}  // namespace kiln
