#pragma once
// Splitters cut text into the pieces that BPE never merges across. Scanners written by hand: the same boundaries as the
// regular expressions, at more than twice the speed of a compiled one.
#include <string>
#include <string_view>

#include "tokenizer/unicode_tables.h"
#include "tokenizer/utf8.h"

namespace kiln {

enum class SplitterKind { kGpt2 };

inline constexpr const char* kSplitterNames = "gpt2";  // those of parse_splitter, for help and messages

SplitterKind parse_splitter(const std::string& name);  // throws UsageError naming those there are
const char* splitter_name(SplitterKind kind);

namespace splitting {

// Class and length of the character at `p` (p < end). A byte that starts no valid character counts as one `other`.
inline CharClass class_at(const char* p, const char* end, int& length) {
    const unsigned char lead = *p;
    if (lead < 0x80) {
        length = 1;
        return ascii_class(lead);
    }
    uint32_t code_point;
    length = decode_utf8(p, end, code_point);
    if (length == 0) {
        length = 1;
        return CharClass::kOther;
    }
    return char_class(code_point);
}

// End of the run of characters of class `wanted` that starts at `p`.
inline const char* skip_run(const char* p, const char* end, CharClass wanted) {
    int length;
    while (p < end && class_at(p, end, length) == wanted) p += length;
    return p;
}

// Length of 's 't 'm 'd 're 've 'll at `p`, where an apostrophe stands; 0 if there is none.
inline int contraction(const char* p, const char* end) {
    if (end - p < 2) return 0;
    const char a = p[1];
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if (end - p < 3) return 0;
    const char b = p[2];
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
template <class Emit>
void split_gpt2(std::string_view text, Emit&& emit) {
    const char* p = text.data();
    const char* const end = p + text.size();
    while (p < end) {
        const char* const start = p;
        if (*p == '\'') {
            if (const int n = contraction(p, end)) {
                emit(std::string_view(start, n));
                p += n;
                continue;
            }
        }
        int length;
        CharClass kind = class_at(p, end, length);
        p += length;
        if (*start == ' ' && p < end) {  // one space joins the run after it
            const CharClass after = class_at(p, end, length);
            if (after != CharClass::kSpace) {
                kind = after;
                p += length;
            }
        }
        if (kind != CharClass::kSpace) {
            p = skip_run(p, end, kind);
        } else {
            const char* last = start;  // where the run's last space begins
            while (p < end && class_at(p, end, length) == CharClass::kSpace) {
                last = p;
                p += length;
            }
            // \s+(?!\S): before other text the run leaves its last space to what follows.
            if (p < end && last > start) p = last;
        }
        emit(std::string_view(start, p - start));
    }
}

}  // namespace splitting

// Calls emit(std::string_view piece) for every piece of `text`, in order; together they are `text`.
template <class Emit>
void split(SplitterKind kind, std::string_view text, Emit&& emit) {
    switch (kind) {
        case SplitterKind::kGpt2:
            splitting::split_gpt2(text, emit);
            return;
    }
}

}  // namespace kiln
