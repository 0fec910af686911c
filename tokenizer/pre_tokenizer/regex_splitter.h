#pragma once
// A regular expression of the user's that cuts text into pieces, by PCRE2.
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace kiln {

// The expression means what it means to Hugging Face's tokenizers (Oniguruma): ^ and $ stand at newlines, \s is
// White_Space, \w and \p{...} hold the characters of Unicode 16. Constructs that the two engines read differently are
// refused. What is left: PCRE2's \p{Mn} has U+1171E too; case is ignored one character at a time ((?i:ss) is not the
// sharp s), and by the case pairs of PCRE2's own Unicode.
class SplitPattern {
public:
    // Throws UsageError with `where`.
    SplitPattern(const std::string& pattern, const std::string& where, bool drop_unmatched);
    SplitPattern(const SplitPattern&) = delete;
    ~SplitPattern();

    // Calls emit(std::string_view) for each match and each stretch between matches, none of them empty. Throws Error if
    // a match takes more steps than PCRE2 allows.
    template <class Emit>
    void split(std::string_view text, Emit&& emit) const {
        const Scratch scratch(*this);
        size_t emitted = 0;
        for (size_t from = 0; from <= text.size();) {
            Match match;
            if (!find(text, from, scratch, match)) break;
            if (match.begin > emitted && !drop_unmatched_) emit(text.substr(emitted, match.begin - emitted));
            if (match.end > match.begin) emit(text.substr(match.begin, match.end - match.begin));
            emitted = match.end;
            from = match.end > match.begin ? match.end : next_character(text, match.end);
        }
        if (emitted < text.size() && !drop_unmatched_) emit(text.substr(emitted));
    }

private:
    struct Match {
        size_t begin = 0, end = 0;
    };
    struct Scratch {  // what a search writes: one for each call, so that threads do not share it
        explicit Scratch(const SplitPattern& pattern);
        Scratch(const Scratch&) = delete;
        ~Scratch();
        void* data;
    };
    bool find(std::string_view text, size_t from, const Scratch& scratch, Match& match) const;
    static size_t next_character(std::string_view text, size_t at);

    void* code_ = nullptr;
    bool drop_unmatched_;
};

}  // namespace kiln
