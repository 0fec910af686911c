#pragma once
// What is in \p{...} and \w of Hugging Face's tokenizers (Unicode 16), in PCRE2's words. Debian 12's PCRE2 has Unicode
// 14: some 10,000 characters are younger.
#include <cstddef>

namespace kiln {

struct CharacterProperty {
    const char* name;     // in small letters, without spaces, - and _; with a ! in front: what is in neither of the two
    const char* pcre2;    // for the inside of a class
    const char* younger;  // the same: code points that PCRE2 does not know to have the property
};

extern const CharacterProperty kCharacterProperties[];  // generated, by name
extern const size_t kCharacterPropertyCount;

// What Hugging Face's Punctuation and Digits look for, in versions of Unicode of their own.
extern const char* const kPunctuationClass;
extern const char* const kDigitsClass;

}  // namespace kiln
