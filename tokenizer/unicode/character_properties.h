#pragma once
// The characters of \p{...} and \w in Hugging Face's tokenizers (Unicode 16), as PCRE2 writes them. Debian 12's PCRE2
// has Unicode 14 and lacks about 10,000 newer characters.
#include <cstddef>

namespace kiln {

struct CharacterProperty {
    const char* name;     // lower case, without spaces, - and _. With ! in front: the complement of the two below
    const char* pcre2;    // goes inside a class
    const char* younger;  // goes inside a class: code points that PCRE2 lacks
};

extern const CharacterProperty kCharacterProperties[];  // generated, sorted by name
extern const size_t kCharacterPropertyCount;

// The classes of Hugging Face's Punctuation and Digits, which use other Unicode versions.
extern const char* const kPunctuationClass;
extern const char* const kDigitsClass;

}  // namespace kiln
