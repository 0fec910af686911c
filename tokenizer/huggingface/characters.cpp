#include "tokenizer/huggingface/characters.h"

#include <algorithm>

#include "cpu_reference/interface/error.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/huggingface/parts.h"
#include "tokenizer/io/line_reader.h"
#include "tokenizer/unicode/tables.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {

CharacterTrainer::CharacterTrainer(CharacterTrainerOptions options)
    : options_(std::move(options)), normalizer_(options_.normalizer), counts_(kMaxCodePoint + 1) {
    check_special_tokens(options_.special_tokens);
    const size_t specials = options_.special_tokens.size();
    if (options_.vocab_size != 0 && static_cast<size_t>(options_.vocab_size) <= specials) {
        throw UsageError(concat("a vocabulary of ", options_.vocab_size, " tokens is too small: ", specials,
                                " special tokens leave no room for characters"));
    }
}

void CharacterTrainer::add_text(std::string_view text, const std::string& name) {
    add(text, name, 0);
}

void CharacterTrainer::add(std::string_view text, const std::string& name, uint64_t before) {
    check_utf8(text, name, before);
    std::string normal_form;
    while (!text.empty()) {  // by lines: normalization does not cross a newline, and its input has a limit
        const size_t end = std::min(text.find('\n', 0), text.size() - 1) + 1;
        const std::string_view line = normalizer_.normalize(text.substr(0, end), normal_form);
        for (const char *p = line.data(), *stop = p + line.size(); p < stop;) {
            uint32_t character = 0;
            p += decode_utf8(p, stop, character);
            ++counts_[character];
        }
        text.remove_prefix(end);
    }
}

void CharacterTrainer::add_file(const std::filesystem::path& path) {
    LineReader reader{InputFile(path)};
    uint64_t before = 0;
    for (std::string lines; reader.next(lines, size_t(1) << 20); before += lines.size())
        add(lines, path.string(), before);
}

Tokenizer CharacterTrainer::train() const {
    std::vector<uint32_t> characters;
    size_t seen = 0;
    for (uint32_t c = 0; c <= kMaxCodePoint; ++c) {
        seen += counts_[c] > 0;
        if (counts_[c] > 0 && counts_[c] >= options_.min_frequency) characters.push_back(c);
    }
    KILN_CHECK(seen > 0, "there is no text to train a tokenizer on: every input is empty");
    const size_t specials = options_.special_tokens.size();
    if (options_.vocab_size != 0 && characters.size() > options_.vocab_size - specials) {
        std::stable_sort(characters.begin(), characters.end(),
                         [&](uint32_t a, uint32_t b) { return counts_[a] > counts_[b]; });
        characters.resize(options_.vocab_size - specials);
        std::sort(characters.begin(), characters.end());
    }
    TokenizerParts parts = TokenizerParts::characters(options_.normalizer);
    std::vector<std::string>& tokens = parts.vocabulary.tokens;
    for (const std::string& token : options_.special_tokens) {
        if (token == "<unk>") parts.unknown = static_cast<int>(tokens.size());
        parts.added.push_back({.id = static_cast<int>(tokens.size()), .content = token, .special = true});
        tokens.push_back(token);
    }
    KILN_CHECK(parts.unknown >= 0 || characters.size() == seen, seen - characters.size(), " of the text's ", seen,
               " characters are left out, and no token stands for them; add <unk> to --special-tokens, or keep all "
               "characters");
    for (const uint32_t c : characters) append_utf8(tokens.emplace_back(), c);
    parts.is_text.assign(tokens.size(), true);
    std::fill_n(parts.is_text.begin(), specials, false);
    return make_tokenizer(std::move(parts), "the trained tokenizer");
}

}  // namespace kiln
