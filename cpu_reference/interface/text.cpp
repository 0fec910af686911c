#include "cpu_reference/interface/text.h"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <numeric>

#include "cpu_reference/interface/error.h"

namespace kiln {

std::string formatted(const char* pattern, ...) {
    char buffer[512];
    va_list arguments;
    va_start(arguments, pattern);
    std::vsnprintf(buffer, sizeof buffer, pattern, arguments);
    va_end(arguments);
    return buffer;
}

std::string bytes_text(double bytes) {
    if (bytes >= 0x1p40) return formatted("%.2f TiB", bytes / 0x1p40);
    if (bytes >= 0x1p30) return formatted("%.2f GiB", bytes / 0x1p30);
    if (bytes >= 0x1p20) return formatted("%.1f MiB", bytes / 0x1p20);
    return formatted("%.1f KiB", bytes / 0x1p10);
}

std::string count_text(double n) {
    if (n >= 1e12) return formatted("%.2fT", n / 1e12);
    if (n >= 1e9) return formatted("%.2fG", n / 1e9);
    if (n >= 1e6) return formatted("%.1fM", n / 1e6);
    if (n >= 1e3) return formatted("%.1fk", n / 1e3);
    return formatted("%.0f", n);
}

std::string duration_text(double seconds) {
    if (!std::isfinite(seconds) || seconds < 0) return "?";
    const long s = std::lround(seconds);
    if (s >= 86400) return formatted("%ldd %02ldh", s / 86400, s % 86400 / 3600);
    if (s >= 3600) return formatted("%ldh %02ldm", s / 3600, s % 3600 / 60);
    if (s >= 60) return formatted("%ldm %02lds", s / 60, s % 60);
    return formatted("%lds", s);
}

std::string join(const std::vector<std::string>& parts, const char* separator) {
    std::string all;
    for (const std::string& part : parts) all += (&part == parts.data() ? "" : separator) + part;
    return all;
}

std::vector<std::string> split_at_commas(const std::vector<std::string>& lists) {
    std::vector<std::string> items;
    for (const std::string& list : lists) {
        for (size_t start = 0, comma; !list.empty() && start <= list.size(); start = comma + 1) {
            comma = std::min(list.find(',', start), list.size());
            const size_t first = list.find_first_not_of(" \t", start);
            if (first >= comma) throw UsageError(concat("the list \"", list, "\" has an empty item"));
            items.push_back(list.substr(first, list.find_last_not_of(" \t", comma - 1) + 1 - first));
        }
    }
    return items;
}

std::string padded(const std::string& text, size_t width) {
    return text + std::string(text.size() < width ? width - text.size() : 1, ' ');
}

size_t edit_distance(std::string_view a, std::string_view b) {
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

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
    const auto distance = [&](const std::string& name) { return edit_distance(word, name); };
    const auto best = std::ranges::min_element(candidates, {}, distance);
    return best == candidates.end() ? "" : *best;
}

}  // namespace kiln
