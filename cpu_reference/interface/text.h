#pragma once
// The small texts of messages: numbers for people, lists, and the nearest name to a misspelt one.
#include <string>
#include <string_view>
#include <vector>

namespace kiln {

[[gnu::format(printf, 1, 2)]] std::string formatted(const char* pattern, ...);

std::string bytes_text(double bytes);       // "412.0 MiB"
std::string count_text(double n);           // "124.4M"
std::string duration_text(double seconds);  // "1h 02m"

std::string join(const std::vector<std::string>& parts, const char* separator);
// "a, b" and "c" become a, b and c, without the spaces at their ends. Throws UsageError if an item is empty.
std::vector<std::string> split_at_commas(const std::vector<std::string>& lists);
// `text` followed by spaces up to `width` columns, and by one space at least.
std::string padded(const std::string& text, size_t width);

// How many letters must be changed, inserted, deleted or swapped with their neighbour to turn `a` into `b`.
size_t edit_distance(std::string_view a, std::string_view b);
// The candidate with the smallest edit distance to `word`, the first of equal ones; empty if there is none.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace kiln
