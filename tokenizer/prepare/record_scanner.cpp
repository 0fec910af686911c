#include "tokenizer/prepare/record_scanner.h"

#include <cstring>

namespace kiln {

using Span = Block::Span;

void LineScanner::scan(std::string_view text, std::vector<Span>& records) {
    while (scanned_ < text.size()) {
        if (!in_record_) start(scanned_);
        const size_t newline = text.find('\n', scanned_);
        scanned_ = newline == text.npos ? text.size() : newline + 1;
        if (newline == text.npos) return;
        const bool blank = text.substr(begin_, newline - begin_).find_first_not_of(" \t\r") == text.npos;
        end(blank ? begin_ : newline, records);
    }
}

void LineScanner::finish(std::string_view text, std::vector<Span>& records) {
    if (!in_record_) return;
    const bool blank = text.substr(begin_).find_first_not_of(" \t\r") == text.npos;
    end(blank ? begin_ : text.size(), records);
}

bool JsonScanner::between(char c) {
    if (c == ' ' || c == '\n' || c == '\r' || c == '\t') return true;
    const bool may_start =
        state_ == State::start || state_ == State::first || state_ == State::record || state_ == State::sequence;
    if (c == '{' && may_start) {
        start(scanned_);
        depth_ = 0;
        in_string_ = escaped_ = false;
        if (state_ == State::start) state_ = State::sequence;
    } else if ((state_ == State::first || state_ == State::record) && c != ']' && c != ',' && c != '}') {
        start(scanned_);  // an element that is not an object
        depth_ = 0;
        in_string_ = escaped_ = false;
    } else if (c == '[' && state_ == State::start) {
        state_ = State::first;
    } else if (c == ']' && (state_ == State::first || state_ == State::separator)) {
        state_ = State::done;
    } else if (c == ',' && state_ == State::separator) {
        state_ = State::record;
    } else {
        mistake_ = state_ == State::separator ? "a comma or ] is missing between the records of the array"
                   : state_ == State::done    ? "there is more after the end of the array"
                                              : "a record { ... } is expected here";
        return false;
    }
    return true;
}

void JsonScanner::scan(std::string_view text, std::vector<Span>& records) {
    for (; scanned_ < text.size() && mistake_.empty(); scanned_++) {
        const char c = text[scanned_];
        if (!in_record_) {
            if (!between(c)) return;
            if (!in_record_) continue;
        }
        if (in_string_) {
            if (escaped_) {
                escaped_ = false;
                continue;
            }
            const char* p = text.data() + scanned_;
            const char* const stop = text.data() + text.size();
            while (p < stop && *p != '"' && *p != '\\') p++;
            scanned_ = size_t(p - text.data());
            if (p == stop) return;
            escaped_ = *p == '\\';
            in_string_ = escaped_;
            if (!in_string_ && depth_ == 0) {
                end(scanned_ + 1, records);
                state_ = State::separator;
            }
        } else if (c == '"') {
            in_string_ = true;
        } else if (c == '{' || c == '[') {
            depth_++;
        } else if ((c == '}' || c == ']') && --depth_ == 0) {
            end(scanned_ + 1, records);
            if (state_ != State::sequence) state_ = State::separator;
        } else if (depth_ <= 0 && (c == ',' || c == ']' || c == '\n')) {  // after a number or an invalid element
            end(scanned_, records);
            state_ = State::separator;
            if (!between(c)) return;
        }
    }
}

void JsonScanner::finish(std::string_view, std::vector<Span>&) {
    if (!mistake_.empty()) return;
    if (in_record_) {
        mistake_ = "the record that starts here does not end; the file is truncated, or a quote or brace is missing";
        scanned_ = begin_;
    } else if (state_ == State::first || state_ == State::record || state_ == State::separator) {
        mistake_ = "the file ends within the array; it is truncated";
    }
}

void CsvScanner::scan(std::string_view text, std::vector<Span>& records) {
    const char* const begin = text.data();
    const char* const stop = begin + text.size();
    const char* p = begin + scanned_;
    while (p < stop) {
        if (!in_record_) start(size_t(p - begin));
        const char c = *p;
        switch (state_) {
            case State::quoted:
                p = static_cast<const char*>(std::memchr(p, '"', size_t(stop - p)));
                if (!p) {
                    p = stop;
                } else {
                    p++;
                    state_ = State::quote;
                }
                continue;
            case State::plain:
                while (p < stop && *p != delimiter_ && *p != '\n') p++;
                if (p == stop) continue;
                break;
            case State::field_start:
            case State::quote:  // after a quote: a second one is text; csv_text() finds other mistakes
                if (c == '"') {
                    state_ = State::quoted;
                    p++;
                    continue;
                }
                break;
        }
        if (*p == '\n') {
            const auto at = size_t(p - begin);
            end(text.substr(begin_, at - begin_) == "\r" ? begin_ : at, records);
        }
        state_ = *p == '\n' || *p == delimiter_ ? State::field_start : State::plain;
        p++;
    }
    scanned_ = text.size();
}

void CsvScanner::finish(std::string_view text, std::vector<Span>& records) {
    if (!in_record_) return;
    if (state_ == State::quoted) {
        mistake_ = "a quote opens in the row that starts here and never closes";
        scanned_ = begin_;
    } else {
        end(text.size(), records);
    }
}

}  // namespace kiln
