#include "tools/generate/prompt.h"

#include <gtest/gtest.h>

#include "cpu_reference/interface/error.h"
#include "tests/support/temp_directory.h"
#include "tests/support/tokenizer_fixtures.h"

namespace kiln {
namespace {

std::string repeated(const std::string& text, size_t bytes) {
    std::string all;
    while (all.size() < bytes) all += text;
    return all;
}

TEST(Prompt, that_is_encoded_in_parts_has_the_ids_of_the_whole) {
    const std::string text = repeated(slurp(tokenizer_fixture("mixed.txt")), 1 << 20);
    for (const char* name : {"english.json", "han_nfkc.json", "runs.json", "characters.json"}) {
        const Tokenizer tokenizer = Tokenizer::load(tokenizer_fixture(name));
        const std::vector<int> ids = encode_prompt(tokenizer, text, {.allow_special = true}, 1 << 30);
        EXPECT_TRUE(ids == tokenizer.encode(text, {.allow_special = true})) << name;
    }
}

TEST(Prompt, that_is_much_too_long_is_refused_before_all_of_it_is_encoded) {
    const Tokenizer tokenizer = Tokenizer::load(tokenizer_fixture("english.json"));
    const std::string part = repeated("some words ", 1000) + "<|endoftext|>";  // about 1 KiB
    EncodeCounts counts;  // of special tokens, tells how much was encoded
    const std::string message =
        error_of([&] { encode_prompt(tokenizer, repeated(part, 4 << 20), {.counts = &counts}, 100); });
    EXPECT_NE(message.find("leaves no room in the model's context of 100 tokens"), std::string::npos) << message;
    EXPECT_GT(counts.special_as_text, 0u);
    EXPECT_LT(counts.special_as_text, 1000u);  // of about 4000
}

}  // namespace
}  // namespace kiln
