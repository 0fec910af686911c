// Every code point, alone and among other characters, has the words and ids of Hugging Face's tokenizers and of
// tiktoken, with every pre-tokenizer.
#include "tests/support/parity_subject.h"

namespace kiln {
namespace {

using CodePointParity = TokenizerParityTest;

std::string character(uint32_t code_point) {
    std::string text;
    append_utf8(text, code_point);
    return text;
}

std::vector<std::string> code_points_of_plane(uint32_t plane) {
    std::vector<std::string> strings;
    for (uint32_t c = plane << 16; c < (plane + 1) << 16; ++c) {
        if (c >= 0xD800 && c < 0xE000) continue;
        const std::string s = character(c);
        strings.push_back(s);
        if (c < 0x33500 || (c >= 0xE0000 && c < 0xE1000) || c % 61 == 0) {
            strings.push_back("a" + s + "b'" + s + " " + s + s + "1" + s + "!" + s + "\n" + s + "S");
        }
    }
    return strings;
}

TEST_P(CodePointParity, every_code_point_has_their_words_and_ids) {
    compare(
        17, [](size_t plane) { return "plane " + std::to_string(plane); }, code_points_of_plane);
}

INSTANTIATE_TEST_SUITE_P(PreTokenizers, CodePointParity, pre_tokenizers_to_compare(), pre_tokenizer_name);

}  // namespace
}  // namespace kiln
