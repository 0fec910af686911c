#pragma once
// Cuts text into words by any regular expression, with PCRE2.
#include <algorithm>
#include <cstddef>
#include <cstdint>
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
    // Published expressions take less than an eighth of this work (see Scratch) on any text.
    static constexpr uint64_t kWorkPerByte = 128;

    // Throws UsageError; messages begin with `where`.
    RegexSplitter(const std::string& pattern, const std::string& where, bool drop_unmatched,
                  uint64_t work_per_byte = kWorkPerByte);
    RegexSplitter(const RegexSplitter&) = delete;
    ~RegexSplitter();

    // Calls emit(std::string_view) for each match, and for the text between matches unless drop_unmatched, if they are
    // not empty. Throws Error, which names the pattern and the place, if the matches take more than `work_per_byte` for
    // each byte of text, as those of an expression of quadratic time do.
    template <class Emit>
    void split(std::string_view text, Emit&& emit) const {
        const std::string_view rest = split(text, false, [&](std::string_view word, bool) { emit(word); });
        if (!rest.empty() && !drop_unmatched_) emit(rest);
    }
    // Calls emit(std::string_view, bool is_match) for the matches and the text between them, and returns the text after
    // the last match. With `open`, it stops where text after `text` could change the next match, and what it returns
    // ends where a match may start. Not inlined, so that the compiler still inlines the scanners beside it.
    template <class Emit>
    [[gnu::noinline]] std::string_view split(std::string_view text, bool open, Emit&& emit) const {
        Scratch scratch(*this);
        size_t emitted = 0;
        for (size_t from = 0; from <= text.size();) {
            Match match;
            if (!find(text, from, open, scratch, match)) {
                text = text.substr(0, match.begin);
                break;
            }
            if (match.begin > emitted && !drop_unmatched_) emit(text.substr(emitted, match.begin - emitted), false);
            if (match.end > match.begin) emit(text.substr(match.begin, match.end - match.begin), true);
            emitted = match.end;
            from = match.end > match.begin ? match.end : next_character(text, match.end);
        }
        return text.substr(std::min(emitted, text.size()));
    }
    bool drops_unmatched() const { return drop_unmatched_; }
    bool looks_behind() const { return looks_behind_; }  // whether a match may depend on the text before it

private:
    struct Match {
        size_t begin = 0, end = 0;
    };
    struct Scratch {  // the memory of a search; each call has its own, so threads do not share it
        explicit Scratch(const RegexSplitter& pattern);
        Scratch(const Scratch&) = delete;
        ~Scratch();
        void* data;
        void* counting;                  // how counting_ is matched
        uint64_t work = 0, allowed = 0;  // bytes that counting_ has moved over, forward or back, and its steps
        size_t at = 0;                   // where its last step was
    };
    // Without a match, match.begin is where one may start if `open` and other text follows, else the end of `text`.
    bool find(std::string_view text, size_t from, bool open, Scratch& scratch, Match& match) const;
    // What PCRE2 says about the text before `end`.
    int search(std::string_view text, size_t end, size_t from, bool open, bool counted, Scratch& scratch) const;
    static size_t next_character(std::string_view text, size_t at);

    const std::string pattern_;
    const uint64_t work_per_byte_;
    void *code_ = nullptr, *counting_ = nullptr;  // the expression; the same with a callout before each step
    void* quick_ = nullptr;                       // how code_ is matched
    bool drop_unmatched_, looks_behind_;
};

}  // namespace kiln
