#pragma once
// Cuts text into words by any regular expression, with PCRE2.
#include <cstddef>
#include <string>
#include <string_view>

namespace kiln {

// The expression means the same as in Hugging Face's tokenizers (Oniguruma): ^ and $ match at newlines, \s is
// White_Space, \w and \p{...} contain the characters of Unicode 16. Constructs that the two engines read differently
// are refused. Three differences remain: PCRE2's \p{Mn} also contains U+1171E; ignoring case, a character matches only
// one character ((?i:ss) does not match the sharp s); and the pairs of upper and lower case are those of PCRE2's own
// Unicode version.
class RegexSplitter {
public:
    // Throws UsageError; messages begin with `where`.
    RegexSplitter(const std::string& pattern, const std::string& where, bool drop_unmatched);
    RegexSplitter(const RegexSplitter&) = delete;
    ~RegexSplitter();

    // Calls emit(std::string_view) for each match, and for the text between matches unless drop_unmatched, if they are
    // not empty. Throws Error if a match takes more steps than PCRE2 allows.
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
    struct Scratch {  // the memory of a search; each call has its own, so threads do not share it
        explicit Scratch(const RegexSplitter& pattern);
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
