#include "tokenizer/text_source.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "cpu_reference/error.h"
#include "tokenizer/splitter.h"
#include "tokenizer/utf8.h"

namespace kiln {

namespace fs = std::filesystem;

namespace {

constexpr size_t kBufferBytes = size_t(256) << 10;
constexpr size_t kMaxRecordBytes = size_t(1) << 30;
constexpr size_t kForcedCut = 4;  // times piece_bytes

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

bool blank(std::string_view text) {
    const char* p = text.data();
    return splitting::skip_run(p, p + text.size(), CharClass::kSpace) == p + text.size();
}

}  // namespace

BufferedInput::BufferedInput(const fs::path& path) : file_(path), buffer_(kBufferBytes) {
    while (end_ < 3 && fill()) {
    }
    if (end_ >= 3 && std::memcmp(buffer_.data(), "\xEF\xBB\xBF", 3) == 0) take(3);
}

bool BufferedInput::fill() {
    if (at_end_) return false;
    if (begin_ > 0) {
        std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
        end_ -= begin_;
        begin_ = 0;
    }
    const size_t n = file_.read(buffer_.data() + end_, buffer_.size() - end_);
    bytes_read_ += n;
    end_ += n;
    at_end_ = n == 0;
    return n > 0;
}

bool BufferedInput::next_line(std::string_view& part, bool& starts_line, bool& ends_line) {
    size_t searched = 0;
    const char* newline = nullptr;
    for (;;) {
        const size_t have = end_ - begin_;
        newline = static_cast<const char*>(std::memchr(buffer_.data() + begin_ + searched, '\n', have - searched));
        searched = have;
        if (newline || have == buffer_.size() || !fill()) break;
    }
    const size_t length = newline ? size_t(newline + 1 - (buffer_.data() + begin_)) : end_ - begin_;
    if (length == 0) return false;
    part = {buffer_.data() + begin_, length};
    starts_line = at_line_start_;
    ends_line = newline || at_end_;
    at_line_start_ = newline != nullptr;
    take(length);
    line_ += newline != nullptr;
    return true;
}

int BufferedInput::next_byte() {
    if (begin_ == end_ && !fill()) return -1;
    const unsigned char c = static_cast<unsigned char>(buffer_[begin_]);
    take(1);
    line_ += c == '\n';
    return c;
}

int JsonScanner::next_visible() {
    int c;
    do c = input_.next_byte();
    while (c == ' ' || c == '\n' || c == '\r' || c == '\t');
    return c;
}

bool JsonScanner::next(std::string& value, uint64_t& line) {
    const auto where = [&] { return concat(input_.path().string(), ":", input_.line()); };
    if (done_) return false;
    int c = next_visible();
    if (!started_) {
        started_ = true;
        in_array_ = c == '[';
        if (in_array_) {
            c = next_visible();
            if (c == ']') c = -1, done_ = true;
        }
    } else if (in_array_) {
        done_ = c == ']';
        KILN_CHECK(done_ || c == ',', where(), ": ",
                   c < 0 ? "the file ends within the array; it is truncated"
                         : "a comma or ] is missing between the records of the array");
        c = done_ ? -1 : next_visible();
    }
    if (done_) {
        KILN_CHECK(next_visible() < 0, where(), ": there is more after the end of the array");
        return false;
    }
    if (c < 0 && !in_array_) {
        done_ = true;
        return false;
    }
    line = input_.line();
    KILN_CHECK(c == '{', where(), ": a record { ... } is expected here");
    value.clear();
    int depth = 0;
    bool in_string = false, escaped = false;
    for (;; c = input_.next_byte()) {
        KILN_CHECK(c >= 0, input_.path().string(), ":", line,
                   ": the record that starts here does not end; the file is "
                   "truncated, or a quote or brace is missing");
        KILN_CHECK(value.size() < kMaxRecordBytes, input_.path().string(), ":", line, ": a record of more than ",
                   kMaxRecordBytes, " bytes; split it");
        value += char(c);
        if (in_string) {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if ((c == '}' || c == ']') && --depth == 0) {
            return true;
        }
    }
}

std::string record_text(std::string_view record, const std::string& text_key, const std::string& where) {
    try {
        nlohmann::json value = nlohmann::json::parse(record);
        KILN_CHECK(value.is_object(), where, ": a record {\"", text_key, "\": ...} is expected, not ",
                   value.type_name());
        const auto found = value.find(text_key);
        if (found == value.end()) {
            std::string keys;
            for (const auto& item : value.items()) keys += (keys.empty() ? "" : ", ") + item.key();
            throw Error(concat(where, ": the record has no field \"", text_key, "\" (it has: ", keys,
                               "); name the one that holds the text with --text-key"));
        }
        KILN_CHECK(found->is_string(), where, ": the field \"", text_key, "\" holds ", found->type_name(),
                   " where text is expected");
        return std::move(found->get_ref<std::string&>());
    } catch (const nlohmann::json::exception& error) {
        std::string_view what = error.what();
        what.remove_prefix(std::min(what.size(), what.find("] ") + 2));  // the exception's number
        throw Error(concat(where, ": not a JSON record: ", what));
    }
}

void PieceCutter::append(std::string_view part, uint64_t line, uint64_t offset) {
    if (text().empty()) {
        line_ = line;
        offset_ = offset;
    }
    // Moving what is left to the front only when it is the smaller half keeps the work linear.
    if (taken_ > text_.size() / 2) {
        text_.erase(0, taken_);
        taken_ = 0;
    }
    text_ += part;
}

void PieceCutter::end(bool drop_newlines) {
    while (drop_newlines && !text().empty() && (text_.back() == '\n' || text_.back() == '\r')) text_.pop_back();
    ended_ = true;
}

bool PieceCutter::take(Piece& piece, const fs::path& path) {
    if (const size_t at = find_cut()) {
        emit(piece, at, path);
        piece.ends_document = false;
        return true;
    }
    if (!ended_) return false;
    const bool wanted = started_ || !blank(text());
    if (wanted) {
        emit(piece, text().size(), path);
        piece.ends_document = true;
    }
    text_.clear();
    taken_ = searched_ = 0;
    started_ = ended_ = false;
    return wanted;
}

// The choice depends on the document's bytes alone, not on how many of them have come: places are tried in order, up
// to a fixed limit, and only once the bytes behind them are there.
size_t PieceCutter::find_cut() {
    constexpr size_t kBehind = 4;  // enough for any character
    const std::string_view t = text();
    if (t.size() < piece_bytes_ + kBehind) return 0;
    const size_t limit = kForcedCut * piece_bytes_, end = std::min(limit, t.size() - kBehind);
    for (size_t at = std::max(searched_, piece_bytes_); at < end; at++) {
        if (t[at - 1] != '\n') continue;
        const CharClass after = class_of(t, at);
        if ((after == CharClass::kLetter || after == CharClass::kNumber) && visible_before(t, at - 1)) return at;
    }
    searched_ = end;
    if (end < limit) return 0;
    for (size_t at = piece_bytes_; at < limit; at++) {
        if (t[at] == ' ' && is_ascii_letter(t[at - 1]) && is_ascii_letter(t[at + 1])) return at;
    }
    size_t at = limit;
    while (at > limit - kBehind && (t[at] & 0xC0) == 0x80) at--;
    return at;
}

void PieceCutter::emit(Piece& piece, size_t bytes, const fs::path& path) {
    piece.text = text().substr(0, bytes);
    piece.starts_document = !started_;
    started_ = true;
    if (const auto bad = find_invalid_utf8(piece.text)) {
        const auto line = line_ + uint64_t(std::count(piece.text.begin(), piece.text.begin() + ptrdiff_t(*bad), '\n'));
        throw Error(concat(path.string(), ":", line, ": byte ", offset_ + *bad, " (value ",
                           int(static_cast<unsigned char>(piece.text[*bad])),
                           ") is not UTF-8; convert the file, for example with `iconv -f GB18030 -t UTF-8`"));
    }
    line_ += uint64_t(std::count(piece.text.begin(), piece.text.end(), '\n'));
    offset_ += bytes;
    taken_ += bytes;
    searched_ = 0;
}

}  // namespace kiln
