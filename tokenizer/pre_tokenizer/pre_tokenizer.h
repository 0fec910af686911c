#pragma once
// Pre-tokenizers cut text into words. BPE never merges across words. The published ones are hand-written scanners: they
// cut where their regular expressions match, and are more than twice as fast as a compiled expression. Every other
// regular expression runs on PCRE2.
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/pre_tokenizer/regex_splitter.h"
#include "tokenizer/pre_tokenizer/scanners.h"

namespace kiln {

enum class PreTokenizerKind {
    kNone,  // the whole text is one word
    kGpt2,
    kCl100k,  // white space at the end of the text is one word
    kLlama3,
    kQwen2,  // llama3, but each digit is a word
    kO200k,  // words also end where a capital follows a small letter
    kRegex,  // a regular expression that is not in the table
};

// One row of the table of named pre-tokenizers.
struct NamedPreTokenizer {
    PreTokenizerKind kind;
    std::string name;
    std::vector<std::string> regexes;  // all cut the same words; tokenizer.json gets the first
    std::string used_by;               // published tokenizers
};
const std::vector<NamedPreTokenizer>& named_pre_tokenizers();
// "gpt2, cl100k, ..., or a regular expression"; in help, each name with the tokenizers that use it.
std::string pre_tokenizer_names(bool help = false);

class PreTokenizer {
public:
    explicit PreTokenizer(PreTokenizerKind kind = PreTokenizerKind::kGpt2);  // not kRegex
    // The scanner for this regular expression, or PCRE2. Text between matches becomes words too, unless
    // `drop_unmatched`. Throws UsageError, with `where` in the message, if PCRE2 refuses the expression or if regular
    // expression engines disagree about it.
    static PreTokenizer from_regex(const std::string& regex, const std::string& where, bool drop_unmatched = false);
    // A name from the table, or a regular expression. Throws UsageError.
    static PreTokenizer parse(const std::string& name_or_regex, const std::string& where);

    PreTokenizerKind kind() const { return kind_; }
    // For Hugging Face's tokenizers and for tiktoken; empty for kNone.
    const std::string& regex() const { return regex_; }
    const std::string& name() const;  // from the table; kRegex: the expression
    bool operator==(const PreTokenizer& other) const { return kind_ == other.kind_ && regex_ == other.regex_; }

    // Calls emit(std::string_view word) for every word of `text`, in order. The words together are the text, without
    // what drop_unmatched drops. Several threads may call it at once.
    template <class Emit>
    void split(std::string_view text, Emit&& emit) const {
        switch (kind_) {
            case PreTokenizerKind::kNone:
                if (!text.empty()) emit(text);
                return;
            case PreTokenizerKind::kGpt2: return scanners::split_gpt2(text, emit);
            case PreTokenizerKind::kCl100k: return scanners::split_llama<3, true>(text, emit);
            case PreTokenizerKind::kLlama3: return scanners::split_llama<3, false>(text, emit);
            case PreTokenizerKind::kQwen2: return scanners::split_llama<1, false>(text, emit);
            case PreTokenizerKind::kO200k: return scanners::split_o200k(text, emit);
            case PreTokenizerKind::kRegex: return compiled_->split(text, emit);
        }
    }

    // Calls emit(std::string_view word, bool is_match) for the words, and returns the text after the last one. With
    // `open`, it stops where text after `text` could change the next word.
    template <class Emit>
    std::string_view split(std::string_view text, bool open, Emit&& emit) const {
        if (kind_ == PreTokenizerKind::kRegex) return compiled_->split(text, open, emit);
        if (kind_ == PreTokenizerKind::kNone) return text;
        size_t end = text.size() - (open && !text.empty());
        while (open && end > 0 && !scanners::always_end_word(text, end)) --end;
        split(text.substr(0, end), [&](std::string_view word) { emit(word, true); });
        return text.substr(end, 0);
    }
    bool drops_unmatched() const { return compiled_ && compiled_->drops_unmatched(); }
    bool looks_behind() const { return compiled_ && compiled_->looks_behind(); }
    bool is_scanner() const { return kind_ != PreTokenizerKind::kNone && kind_ != PreTokenizerKind::kRegex; }

private:
    PreTokenizerKind kind_;
    std::string regex_;
    std::shared_ptr<const RegexSplitter> compiled_;  // of kRegex
};

// Hugging Face's Sequence of pre-tokenizers, and the space that some tokenizers put in front.
struct PreTokenizerSequence {
    // Where a space is added if there is none: nowhere; at the start of a text; or at the start of every word, as
    // Hugging Face does when ByteLevel follows another pre-tokenizer.
    enum class PrefixSpace { kNone, kText, kWords };
    PreTokenizer last = PreTokenizer();
    PrefixSpace prefix_space = PrefixSpace::kNone;
    std::vector<PreTokenizer> before = {};  // each cuts the words of the one before it

    // What Hugging Face's ByteLevel does with add_prefix_space.
    static PreTokenizerSequence byte_level(PreTokenizer last, bool add_prefix_space) {
        const bool alone = last.kind() == PreTokenizerKind::kGpt2 || last.kind() == PreTokenizerKind::kNone;
        const PrefixSpace where = alone ? PrefixSpace::kText : PrefixSpace::kWords;
        return {std::move(last), add_prefix_space ? where : PrefixSpace::kNone};
    }

    // Calls emit(std::string_view word, size_t start, bool spaced) for every word. The word starts at byte `start` of
    // `text`; if `spaced`, its first character is an added space. `continues`: the text continues another one, so its
    // start gets no space. `scratch` holds the words with an added space.
    template <class Emit>
    void split(std::string_view text, bool continues, std::string& scratch, Emit&& emit) const {
        split_from(0, text, 0, continues && before.empty(), scratch, emit);
    }

    // The first place in [from, end) where the words of any text with this start are those of its two parts, and for
    // which may_cut. 0: there is none, or more text is needed to tell. kNone never cuts.
    size_t find_cut(std::string_view text, size_t from, size_t end, const std::function<bool(size_t)>& may_cut) const;

private:
    struct Word {
        std::string_view text;
        bool may_cut;  // at its end; false within a match of a step before
    };
    // The words of a step of the sequence and the later ones, without added spaces. `match_end`: the end of the match
    // of an earlier step, which `text` is or is part of. `open` as in PreTokenizer.
    void find_words(size_t step, std::string_view text, bool open, const char* match_end,
                    std::vector<Word>& words) const;

    // `text` begins at `offset` of the whole text.
    template <class Emit>
    void split_from(size_t step, std::string_view text, size_t offset, bool continues, std::string& scratch,
                    Emit& emit) const {
        const auto start_of = [&](std::string_view word) { return offset + size_t(word.data() - text.data()); };
        const auto spaced = [&scratch](std::string_view unspaced) -> std::string_view {
            scratch.assign(1, ' ');
            return scratch += unspaced;
        };
        if (step < before.size()) {
            before[step].split(text, [&](std::string_view word) {
                split_from(step + 1, word, start_of(word), continues, scratch, emit);
            });
        } else if (prefix_space == PrefixSpace::kWords) {
            last.split(text, [&](std::string_view word) {
                const bool add = !word.starts_with(' ');
                emit(add ? spaced(word) : word, start_of(word), add);
            });
        } else if (prefix_space == PrefixSpace::kText && !continues && !text.starts_with(' ')) {
            const std::string_view whole = spaced(text);
            last.split(whole, [&](std::string_view word) {
                const bool first = word.data() == whole.data();
                emit(word, first ? offset : offset + size_t(word.data() - whole.data()) - 1, first);
            });
        } else {
            last.split(text, [&](std::string_view word) { emit(word, start_of(word), false); });
        }
    }
};

}  // namespace kiln
