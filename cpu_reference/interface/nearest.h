#pragma once
// The nearest name to a misspelt one, for error messages.
#include <algorithm>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

namespace kiln {

// How many letters must be changed, inserted, deleted or swapped with their neighbour to turn `a` into `b`.
inline size_t edit_distance(std::string_view a, std::string_view b) {
    // Damerau-Levenshtein; rows i - 2, i - 1 and i of the table.
    std::vector<size_t> before, previous(b.size() + 1), row(b.size() + 1);
    std::iota(previous.begin(), previous.end(), size_t(0));
    for (size_t i = 1; i <= a.size(); i++) {
        row[0] = i;
        for (size_t j = 1; j <= b.size(); j++) {
            const bool same = a[i - 1] == b[j - 1];
            row[j] = std::min({previous[j] + 1, row[j - 1] + 1, previous[j - 1] + !same});
            const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
        }
        before = previous;
        previous = row;
    }
    return previous[b.size()];
}

// The candidate with the smallest edit distance to `word`, the first of equal ones; empty if there is none.
inline std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
    const auto distance = [&](const std::string& name) { return edit_distance(word, name); };
    const auto best = std::ranges::min_element(candidates, {}, distance);
    return best == candidates.end() ? "" : *best;
}

}  // namespace kiln
