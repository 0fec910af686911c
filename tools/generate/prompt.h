#pragma once
// Prompts on the command line and in files.
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace kiln {

// Throws Error, which begins with `where`, if the text is not UTF-8.
void check_prompt(const std::string& text, const std::string& where);

// "FILE:path" stands for the whole text of a file, line breaks included, as in nanoGPT and llama2.c. Any other prompt
// is itself. Throws Error if the text is not UTF-8 or the file is empty.
std::string prompt_text(const std::string& prompt);

// The lines of a file that are not blank, without their line breaks. Throws Error if there are none.
std::vector<std::string> prompts_in_lines(const std::string& path);

// The ids of a prompt. Throws Error as soon as it has too many for a context of so many tokens, so a prompt that is
// much too long costs little, if the tokenizer can cut it. Otherwise generate() tells whether the ids leave room.
std::vector<int> encode_prompt(const Tokenizer& tokenizer, std::string_view text, EncodeOptions options, int context);

}  // namespace kiln
