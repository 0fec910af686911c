#pragma once
// The small texts that all programs print: numbers for people, and lists.
#include <string>
#include <string_view>
#include <vector>

#include "cpu_reference/interface/nearest.h"

namespace kiln {

[[gnu::format(printf, 1, 2)]] std::string formatted(const char* pattern, ...);

std::string bytes_text(double bytes);       // "412.0 MiB"
std::string count_text(double n);           // "124.4M"
std::string duration_text(double seconds);  // "1h 02m"

std::string join(const std::vector<std::string>& parts, const char* separator);
// "a, b" and "c" become a, b and c, without the spaces at their ends. Empty items are left out.
std::vector<std::string> split_at_commas(const std::vector<std::string>& lists);
// `text` followed by spaces up to `width` columns, and by one space at least.
std::string padded(const std::string& text, size_t width);

}  // namespace kiln
