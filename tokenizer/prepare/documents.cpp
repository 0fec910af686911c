#include "tokenizer/prepare/documents.h"

#include <algorithm>

#include "cpu_reference/interface/error.h"
#include "tokenizer/pre_tokenizer/scanners.h"

namespace kiln {

namespace fs = std::filesystem;

namespace {

constexpr size_t kForcedCut = 4;  // times piece_bytes
// A longer line of white space is text: else it would have to be kept until it ends.
constexpr size_t kMaxBlankLine = size_t(64) << 10;

CharClass class_of(std::string_view text, size_t at) {
    int length;
    return splitting::class_at(text.data() + at, text.data() + text.size(), length);
}

bool visible_before(std::string_view text, size_t at) {
    size_t start = at - 1;
    while (start > 0 && at - start < 4 && (text[start] & 0xC0) == 0x80) start--;
    return class_of(text, start) != CharClass::kSpace;
}

bool is_ascii_letter(char c) {
    return (c | 32) >= 'a' && (c | 32) <= 'z';
}

bool is_blank(std::string_view line) {
    return line.size() <= kMaxBlankLine && line.find_first_not_of(" \t\r\n") == line.npos;
}

}  // namespace

const std::vector<std::string>& document_format_names() {
    static const std::vector<std::string> names = {"auto", "text", "jsonl", "json", "csv", "tsv"};
    return names;
}

DocumentFormat format_of(const fs::path& path) {
    fs::path name = path.filename();
    if (name.extension() == ".gz" || name.extension() == ".zst") name = name.stem();
    std::string extension = name.extension().string();
    for (char& c : extension) c = c >= 'A' && c <= 'Z' ? char(c + 32) : c;
    return extension == ".jsonl" || extension == ".ndjson" ? DocumentFormat::jsonl
           : extension == ".json"                          ? DocumentFormat::json
           : extension == ".csv"                           ? DocumentFormat::csv
           : extension == ".tsv"                           ? DocumentFormat::tsv
                                                           : DocumentFormat::text;
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

std::string counted(uint64_t count, const char* noun) {
    return concat(count, " ", noun, count == 1 ? "" : "s");
}

// Places are tried in order, up to a fixed limit, and only once the bytes behind them are there.
size_t find_cut(std::string_view text, size_t piece_bytes) {
    constexpr size_t kBehind = 4;  // enough for any character
    if (text.size() < piece_bytes + kBehind) return 0;
    const size_t limit = kForcedCut * piece_bytes, end = std::min(limit, text.size() - kBehind);
    for (size_t at = piece_bytes; at < end; at++) {
        at = text.substr(0, end).find('\n', at - 1);
        if (at == text.npos || ++at == end) break;
        const CharClass after = class_of(text, at);
        if ((after == CharClass::kLetter || after == CharClass::kNumber) && visible_before(text, at - 1)) return at;
    }
    if (end < limit) return 0;
    for (size_t at = piece_bytes; at < limit; at++) {
        if (text[at] == ' ' && is_ascii_letter(text[at - 1]) && is_ascii_letter(text[at + 1])) return at;
    }
    size_t at = limit;
    while (at > limit - kBehind && (text[at] & 0xC0) == 0x80) at--;
    return at;
}

std::string_view without_newlines(std::string_view text, size_t most) {
    for (size_t i = 0; i < most && (text.ends_with('\n') || text.ends_with('\r')); i++) text.remove_suffix(1);
    return text;
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
