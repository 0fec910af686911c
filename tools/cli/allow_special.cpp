#include "tools/cli/allow_special.h"

#include "cpu_reference/interface/error.h"

namespace kiln {

std::vector<std::string> AllowSpecial::list() const {
    if (text_.empty()) throw UsageError("--allow-special= names no token; without the =, it allows all");
    return on() && !all() ? split_at_commas({text_}) : std::vector<std::string>();
}

std::vector<bool> AllowSpecial::ids(const Tokenizer& tokenizer) const {
    return all() ? std::vector<bool>(size_t(tokenizer.vocab_size()), true) : tokenizer.special_ids(list());
}

void add_allow_special(OptionSet& set, AllowSpecial& special) {
    set.add(special.text_,
            {.name = "allow-special",
             .unit = "A,B",
             .help = "special tokens in the text, such as <|im_start|>, become their ids: all of them, or (after an =) "
                     "those listed; none: they are plain text",
             .implied = "all"});
}

std::string note_of(const EncodeCounts& counts, const Tokenizer& tokenizer, bool allowed) {
    std::string note = tokenizer.note().empty() ? "" : "note: " + tokenizer.note();
    const auto add = [&](uint64_t count, const std::string& text) {
        if (count > 0) note += concat(note.empty() ? "note: " : "\nnote: ", count, text);
    };
    if (counts.special_as_text > 0) {
        const std::string first(tokenizer.token_bytes(counts.first_special));
        add(counts.special_as_text,
            concat(" times the text holds a special token (the first is ", first, "), which was encoded as plain text",
                   allowed ? "; it is not in the list of --allow-special" : "; --allow-special makes it one token"));
    }
    add(counts.unknown, " characters or bytes without a token became the unk token");
    add(counts.left_out, " bytes without a token were left out: the vocabulary lacks them, and it has no unk_token");
    return note;
}

}  // namespace kiln
