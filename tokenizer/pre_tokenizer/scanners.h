#pragma once
// The scanners of PreTokenizer, one for each published regular expression. Each byte that is not valid UTF-8 counts as
// a character that is neither a letter, a number nor a space.
#include <algorithm>
#include <cstddef>
#include <string_view>

#include "tokenizer/unicode/tables.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln::scanners {

// Traits and length of the character at `p` (p < end).
inline CharTraits traits_at(const char* p, const char* end, int& length) {
    const unsigned char lead = *p;
    if (lead < 0x80) {
        length = 1;
        return ascii_traits(lead);
    }
    uint32_t code_point;
    length = decode_utf8(p, end, code_point);
    if (length == 0) {
        length = 1;
        return CharTraits(CharClass::kOther);
    }
    return char_traits(code_point);
}

inline CharClass class_at(const char* p, const char* end, int& length) {
    return CharClass(traits_at(p, end, length) & kClassBits);
}

// End of the run of characters of class `wanted` that starts at `p`.
inline const char* skip_run(const char* p, const char* end, CharClass wanted) {
    int length;
    while (p < end && class_at(p, end, length) == wanted) p += length;
    return p;
}

// End of the run of characters that have any of the traits `wanted`.
inline const char* skip_traits(const char* p, const char* end, CharTraits wanted) {
    int length;
    while (p < end && (traits_at(p, end, length) & wanted) != 0) p += length;
    return p;
}

inline bool is_newline(char c) {
    return c == '\n' || c == '\r';
}

// Length of 's 't 'm 'd 're 've 'll at `p`, which points to an apostrophe; 0 if there is none of them.
inline int contraction(const char* p, const char* end) {
    if (end - p < 2) return 0;
    const char a = p[1];
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if (end - p < 3) return 0;
    const char b = p[2];
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

// The same, ignoring case. The long s U+017F counts as an s.
inline int contraction_any_case(const char* p, const char* end) {
    if (end - p >= 3 && p[1] == '\xC5' && p[2] == '\xBF') return 3;
    const auto lower_case = [&](int i) { return static_cast<char>(end - p > i ? p[i] | 0x20 : 0); };
    const char lower[3] = {'\'', lower_case(1), lower_case(2)};
    return contraction(lower, lower + std::min<ptrdiff_t>(3, end - p));
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
        if (*start == ' ' && p < end) {  // a space joins the run after it
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
            // \s+(?!\S): before other text, the last space belongs to the next word.
            if (p < end && last > start) p = last;
        }
        emit(std::string_view(start, p - start));
    }
}

// End of the white space at `start`, as in Llama 3 and later: after the last newline of the run (\s*[\r\n]+); without a
// newline, the end of the text; else before the last character (\s+(?!\S)), unless it is the only one (\s+). With
// `end_first`, a run at the end of the text is always one word (\s++$).
inline const char* skip_space(const char* start, const char* end, bool end_first) {
    const char *p = start, *last = start, *newline = nullptr;
    int length;
    while (p < end && class_at(p, end, length) == CharClass::kSpace) {
        if (is_newline(*p)) newline = p;
        last = p;
        p += length;
    }
    if (p == end && end_first) return end;
    if (newline) return newline + 1;
    return p == end || last == start ? p : last;
}

// End of a run of characters that are neither letters, numbers nor spaces, and of later bytes for which joins(byte).
template <class Joins>
const char* skip_other(const char* p, const char* end, Joins&& joins) {
    p = skip_run(p, end, CharClass::kOther);
    while (p < end && joins(*p)) ++p;
    return p;
}

inline const char* skip_digits(const char* p, const char* end, int most) {
    int length;
    for (int i = 0; i < most && p < end && class_at(p, end, length) == CharClass::kNumber; ++i) p += length;
    return p;
}

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,kDigits}| ?[^\s\p{L}\p{N}]+[\r\n]*|
// \s*[\r\n]+|\s+(?!\S)|\s+, and with kEndFirst \s++$ before \s*[\r\n]+.
template <int kDigits, bool kEndFirst, class Emit>
void split_llama(std::string_view text, Emit&& emit) {
    const char* p = text.data();
    const char* const end = p + text.size();
    while (p < end) {
        const char* const start = p;
        int length, next_length = 0;
        const CharClass kind = class_at(p, end, length);
        const char* const next = p + length;
        const CharClass after = next < end ? class_at(next, end, next_length) : CharClass::kSpace;
        if (kind == CharClass::kLetter) {
            p = skip_run(next, end, CharClass::kLetter);
        } else if (const int n = *p == '\'' ? contraction_any_case(p, end) : 0) {
            p += n;
        } else if (kind == CharClass::kNumber) {
            p = skip_digits(p, end, kDigits);
        } else if (after == CharClass::kLetter && !is_newline(*p)) {
            p = skip_run(next + next_length, end, CharClass::kLetter);
        } else if (kind == CharClass::kOther || (*p == ' ' && after == CharClass::kOther)) {
            p = skip_other(next, end, is_newline);
        } else {
            p = skip_space(p, end, kEndFirst);
        }
        emit(std::string_view(start, p - start));
    }
}

// End of [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+ at `p`: capitals, then small letters; `p` if there
// is no match. Letters without case and marks count as both.
inline const char* skip_capitalized(const char* p, const char* end) {
    const char* last_either = nullptr;  // end of the last character that counts as both
    const char* q = p;
    int length;
    while (q < end) {
        const CharTraits traits = traits_at(q, end, length);
        if ((traits & kAmongCapitals) == 0) break;
        q += length;
        if ((traits & kAmongSmall) != 0) last_either = q;
    }
    const char* const small_end = skip_traits(q, end, kAmongSmall);
    if (small_end > q) return small_end;
    return last_either ? last_either : p;
}

// W1(?i:'s|...)?|W2(?i:'s|...)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+ with
// W1 = [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+ and
// W2 = [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*.
template <class Emit>
void split_o200k(std::string_view text, Emit&& emit) {
    const char* p = text.data();
    const char* const end = p + text.size();
    // End of the word at `at`. It may begin with one character that is neither a letter, a number nor a newline.
    const auto skip_word = [end](const char* at, CharClass kind, int length) {
        const bool prefix = (kind == CharClass::kOther || kind == CharClass::kSpace) && !is_newline(*at);
        const char* const word = prefix ? at + length : at;
        const char* stop = skip_capitalized(word, end);
        if (stop == word && prefix) {  // the first character may be a mark, which is also a word
            const char* const whole = skip_capitalized(at, end);
            if (whole > at) return whole;
        }
        if (stop > word) return stop;
        stop = skip_traits(word, end, kAmongCapitals);
        return stop > word ? stop : at;
    };
    while (p < end) {
        const char* const start = p;
        int length;
        const CharClass kind = class_at(p, end, length);
        if (const char* const stop = skip_word(p, kind, length); stop > start) {
            p = stop;
            if (p < end && *p == '\'') p += contraction_any_case(p, end);
        } else if (kind == CharClass::kNumber) {
            p = skip_digits(p, end, 3);
        } else {
            int next_length;
            const char* const next = p + length;
            const bool space_before_other =
                *p == ' ' && next < end && class_at(next, end, next_length) == CharClass::kOther;
            p = kind == CharClass::kOther || space_before_other
                    ? skip_other(next, end, [](char c) { return is_newline(c) || c == '/'; })
                    : skip_space(p, end, false);
        }
        emit(std::string_view(start, p - start));
    }
}

// Whether every scanner above ends a word at `at` (0 < at < text.size()), whatever the rest of the text is: after a
// letter or number, before a character of another class. Excluded are an apostrophe, since o200k joins contractions to
// words, and marks, which it counts as letters.
inline bool always_end_word(std::string_view text, size_t at) {
    const char *const middle = text.data() + at, *const before = text.data() + character_before(text, at);
    int length;
    const CharTraits after = traits_at(middle, text.data() + text.size(), length);
    const CharClass right = CharClass(after & kClassBits);
    if (*middle == '\'' || (right == CharClass::kOther && (after & (kAmongCapitals | kAmongSmall)) != 0)) return false;
    const CharClass left = class_at(before, middle, length);
    return left != right && (left == CharClass::kLetter || left == CharClass::kNumber) && before + length == middle;
}

// The first place in [from, end) that starts a character and for which may_cut(size_t at). 0: there is none. from >= 1.
template <class MayCut>
size_t find_cut(std::string_view text, size_t from, size_t end, MayCut&& may_cut) {
    for (size_t at = from; at < end; ++at) {
        if ((text[at] & 0xC0) != 0x80 && may_cut(at)) return at;
    }
    return 0;
}

}  // namespace kiln::scanners
