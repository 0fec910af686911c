#include "tokenizer/prepare/documents.h"

#include <algorithm>

#include "cpu_reference/interface/error.h"
#include "tokenizer/pre_tokenizer/scanners.h"

namespace kiln {

namespace fs = std::filesystem;

namespace {

// A longer line of white space counts as text, so that it need not be kept until it ends.
constexpr size_t kMaxBlankLine = size_t(64) << 10;

struct FormatRow {
    std::string name;
    std::vector<std::string> extensions;  // a file with any other is text
};
// In the order of DocumentFormat.
const std::vector<FormatRow>& formats() {
    static const std::vector<FormatRow> table = {
        {"auto", {}},
        {"text", {".txt", ".text", ".md"}},
        {"jsonl", {".jsonl", ".ndjson"}},
        {"json", {".json"}},
        {"csv", {".csv"}},
        {"tsv", {".tsv"}},
    };
    return table;
}

bool is_blank(std::string_view line) {
    return line.size() <= kMaxBlankLine && line.find_first_not_of(" \t\r\n") == line.npos;
}

}  // namespace

const std::vector<std::string>& document_format_names() {
    static const std::vector<std::string> names = [] {
        std::vector<std::string> all;
        for (const FormatRow& row : formats()) all.push_back(row.name);
        return all;
    }();
    return names;
}

const std::vector<std::string>& document_extensions() {
    static const std::vector<std::string> extensions = [] {
        std::vector<std::string> all;
        for (const FormatRow& row : formats()) all.insert(all.end(), row.extensions.begin(), row.extensions.end());
        return all;
    }();
    return extensions;
}

std::string lower_extension(const fs::path& path) {
    std::string extension = path.extension().string();
    for (char& c : extension) c = c >= 'A' && c <= 'Z' ? char(c + 32) : c;
    return extension;
}

fs::path decompressed_name(const fs::path& path) {
    const std::string extension = lower_extension(path);
    return extension == ".gz" || extension == ".zst" ? path.stem() : path;
}

bool is_archive_name(const fs::path& path) {
    return lower_extension(path) == ".tgz" || lower_extension(decompressed_name(path)) == ".tar";
}

DocumentFormat format_of(const fs::path& path) {
    const std::string extension = lower_extension(decompressed_name(path));
    for (size_t i = 0; i < formats().size(); i++) {
        if (std::ranges::count(formats()[i].extensions, extension) > 0) return DocumentFormat(i);
    }
    return DocumentFormat::text;
}

std::string Block::place(size_t offset) const {
    if (offset < counted_) counted_ = newlines_ = 0;
    newlines_ += uint64_t(std::count(bytes.begin() + ptrdiff_t(counted_), bytes.begin() + ptrdiff_t(offset), '\n'));
    counted_ = offset;
    const uint64_t line = first_line + newlines_;
    if (format != DocumentFormat::json) return concat(file, ":", line);
    const auto behind = std::upper_bound(records.begin(), records.end(), offset,
                                         [](size_t at, const Span& record) { return at < record.begin; });
    return concat(file, ":", line, ": record ", records_before + uint64_t(behind - records.begin()));
}

size_t find_word_end(std::string_view text, size_t from) {
    constexpr size_t kBehind = 4;  // enough for any character
    const size_t end = text.size() - std::min(text.size(), kBehind);
    return scanners::find_cut(text, from, end, [&](size_t at) { return scanners::always_end_word(text, at); });
}

std::string_view without_newlines(std::string_view text, size_t most) {
    for (size_t i = 0; i < most && (text.ends_with('\n') || text.ends_with('\r')); i++) text.remove_suffix(1);
    return text;
}

size_t LineRule::after_separator(std::string_view text, size_t at) const {
    at += separator.size();
    for (const std::string_view newline : {"\n", "\r\n"}) {
        if (text.substr(at).starts_with(newline)) return at + newline.size();
    }
    return at;
}

bool LineRule::divides(std::string_view line) const {
    if (separator.empty()) return mode == DocumentMode::paragraph && is_blank(line);
    if (line.ends_with('\n')) line.remove_suffix(1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line == separator;
}

bool LineRule::may_divide(std::string_view start) const {
    if (separator.empty()) return mode == DocumentMode::paragraph && is_blank(start);
    if (start.ends_with('\r')) start.remove_suffix(1);
    return separator.starts_with(start);
}

}  // namespace kiln
