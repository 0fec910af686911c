#pragma once
// Splitters cut text into the pieces that BPE never merges across. Those of the known tokenizers are scanners written
// by hand: the same boundaries as the regular expressions, at more than twice the speed of a compiled one. Any other
// regular expression goes through PCRE2.
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/pre_tokenizer/regex_splitter.h"
#include "tokenizer/pre_tokenizer/scanners.h"

namespace kiln {

enum class SplitterKind {
    kNone,     // the whole text is one piece
    kGpt2,     // GPT-2; r50k_base, p50k_base
    kCl100k,   // cl100k_base as tiktoken has it today: white space that ends the text is one piece
    kLlama3,   // Llama 3; cl100k_base before that
    kQwen2,    // Llama 3 with each digit alone
    kO200k,    // o200k_base: words also end where capitals follow small letters
    kPattern,  // a regular expression of the user's
};

inline constexpr const char* kSplitterNames = "gpt2, cl100k, llama3, qwen2, o200k, none";  // of Splitter::parse

class Splitter {
public:
    explicit Splitter(SplitterKind kind = SplitterKind::kGpt2);  // not kPattern
    // The scanner with this regular expression, or one by PCRE2. Text that no match covers becomes pieces too, or is
    // dropped. Throws UsageError, with `where` in the message, on an expression that PCRE2 does not take or that
    // regular expression engines read differently.
    static Splitter from_pattern(const std::string& pattern, const std::string& where, bool drop_unmatched = false);
    // One of kSplitterNames, or a regular expression. Throws UsageError.
    static Splitter parse(const std::string& name_or_pattern, const std::string& where);

    SplitterKind kind() const { return kind_; }
    // As Hugging Face's tokenizers and tiktoken take it; empty for kNone.
    const std::string& pattern() const { return pattern_; }
    bool operator==(const Splitter& other) const { return kind_ == other.kind_ && pattern_ == other.pattern_; }

    // Calls emit(std::string_view piece) for every piece of `text`, in order; together they are `text`, but for what
    // drop_unmatched drops. Safe to call from several threads.
    template <class Emit>
    void split(std::string_view text, Emit&& emit) const {
        switch (kind_) {
            case SplitterKind::kNone:
                if (!text.empty()) emit(text);
                return;
            case SplitterKind::kGpt2:
                return splitting::split_gpt2(text, emit);
            case SplitterKind::kCl100k:
                return splitting::split_llama<3, true>(text, emit);
            case SplitterKind::kLlama3:
                return splitting::split_llama<3, false>(text, emit);
            case SplitterKind::kQwen2:
                return splitting::split_llama<1, false>(text, emit);
            case SplitterKind::kO200k:
                return splitting::split_o200k(text, emit);
            case SplitterKind::kPattern:
                return compiled_->split(text, emit);
        }
    }

private:
    SplitterKind kind_;
    std::string pattern_;
    std::shared_ptr<const SplitPattern> compiled_;  // of kPattern
};

// Text -> pieces, with the space that some tokenizers put in front.
struct PreTokenizer {
    // Where a space is added, unless one is there: nowhere; at the start of a text; or, as Hugging Face does when
    // ByteLevel follows another splitter, at the start of every piece.
    enum class PrefixSpace { kNone, kText, kPieces };
    Splitter splitter = Splitter();
    PrefixSpace prefix_space = PrefixSpace::kNone;
    std::vector<Splitter> before = {};  // applied first, in turn, each to the pieces of the one before

    // As Hugging Face's ByteLevel does with add_prefix_space.
    static PreTokenizer byte_level(Splitter splitter, bool add_prefix_space) {
        const bool alone = splitter.kind() == SplitterKind::kGpt2 || splitter.kind() == SplitterKind::kNone;
        const PrefixSpace where = alone ? PrefixSpace::kText : PrefixSpace::kPieces;
        return {std::move(splitter), add_prefix_space ? where : PrefixSpace::kNone};
    }

    // Calls emit(std::string_view piece, size_t start, bool spaced) for every piece: it starts at byte `start` of
    // `text`, after a space that is not there if `spaced`. `continues`: the text goes on where another ended, so that
    // its start gets no space. `scratch` holds the spaced copies that `emit` sees.
    template <class Emit>
    void split(std::string_view text, bool continues, std::string& scratch, Emit&& emit) const {
        split_from(0, text, 0, continues && before.empty(), scratch, emit);
    }

private:
    // `text` begins at `offset` of the whole.
    template <class Emit>
    void split_from(size_t step, std::string_view text, size_t offset, bool continues, std::string& scratch,
                    Emit& emit) const {
        const auto start_of = [&](std::string_view piece) { return offset + size_t(piece.data() - text.data()); };
        const auto spaced = [&scratch](std::string_view unspaced) -> std::string_view {
            scratch.assign(1, ' ');
            return scratch += unspaced;
        };
        if (step < before.size()) {
            before[step].split(text, [&](std::string_view piece) {
                split_from(step + 1, piece, start_of(piece), continues, scratch, emit);
            });
        } else if (prefix_space == PrefixSpace::kPieces) {
            splitter.split(text, [&](std::string_view piece) {
                const bool add = !piece.starts_with(' ');
                emit(add ? spaced(piece) : piece, start_of(piece), add);
            });
        } else if (prefix_space == PrefixSpace::kText && !continues && !text.starts_with(' ')) {
            const std::string_view whole = spaced(text);
            splitter.split(whole, [&](std::string_view piece) {
                const bool first = piece.data() == whole.data();
                emit(piece, first ? offset : offset + size_t(piece.data() - whole.data()) - 1, first);
            });
        } else {
            splitter.split(text, [&](std::string_view piece) { emit(piece, start_of(piece), false); });
        }
    }
};

}  // namespace kiln
