#include "tokenizer/pre_tokenizer/regex_splitter.h"

#include <algorithm>
#include <new>

#include "cpu_reference/interface/error.h"
#include "tokenizer/unicode/character_properties.h"
#include "tokenizer/unicode/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace kiln {
namespace {

constexpr size_t kMaxPatternBytes = 10000;
// Words are short, so a search sees only this much of the text at first. It needs more only if it reaches the end of
// what it sees; from then on its work is counted.
constexpr size_t kWindow = 256;
constexpr uint32_t kQuickSteps = 4 * kWindow;  // then the work is counted too
constexpr uint64_t kFreeBytes = 4096;          // short texts may take the work of so many bytes more
constexpr size_t kExcerptBytes = 80;
constexpr uint32_t kHeapKiB = 1 << 20;

pcre2_code* code(void* p) {
    return static_cast<pcre2_code*>(p);
}
pcre2_match_context* context(void* p) {
    return static_cast<pcre2_match_context*>(p);
}
PCRE2_SPTR units(std::string_view text) {
    return reinterpret_cast<PCRE2_SPTR>(text.data());
}

constexpr uint32_t kCompileOptions =
    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_MATCH_INVALID_UTF;

bool compiles(const std::string& pattern) {
    int error;
    PCRE2_SIZE at;
    pcre2_code* const compiled = pcre2_compile(units(pattern), pattern.size(), kCompileOptions, &error, &at, nullptr);
    pcre2_code_free(compiled);
    return compiled != nullptr;
}

// Rewrites an expression so that PCRE2 reads it as Oniguruma does. Refuses constructs that cannot be rewritten.
class Translator {
public:
    Translator(const std::string& pattern, const std::string& where) : pattern_(pattern), where_(where) {}

    std::string translate() {
        while (at_ < pattern_.size()) {
            const char c = pattern_[at_];
            if (c == '\\') {
                escape();
            } else if (in_class_) {
                in_class();
            } else if (c == '[') {
                in_class_ = true;
                class_start_ = result_.size();
                take(pattern_.compare(at_ + 1, 1, "^") == 0 ? 2 : 1);
                class_inside_ = result_.size();
                if (at_ < pattern_.size() && pattern_[at_] == ']') refuse(1, "a class that starts with ]", "write \\]");
            } else if (c == '(') {
                group();
            } else if (c == '}' && pattern_.compare(at_ + 1, 1, "+") == 0) {
                refuse(2, "+ after a counted repetition",
                       "it is possessive in some engines and repeats in others; leave it out or use (?>...)");
            } else {
                caret_ = caret_ || c == '^';
                take(1);
            }
        }
        return std::move(result_);
    }
    bool has_caret() const { return caret_; }  // as an assertion

private:
    void take(size_t n) {
        n = std::min(n, pattern_.size() - at_);
        result_.append(pattern_, at_, n);
        at_ += n;
    }
    [[noreturn]] void refuse(size_t n, const std::string& what, const std::string& advice) {
        throw UsageError(concat(where_, ": the regular expression has, at byte ", at_, ", \"", pattern_.substr(at_, n),
                                "\": ", what, " does not mean the same to all engines; ", advice));
    }
    void escape() {
        if (at_ + 1 == pattern_.size()) {
            take(1);  // PCRE2 reports the error
            return;
        }
        const char c = pattern_[at_ + 1];
        const auto replace = [&](const std::string& by) {
            result_ += by;
            at_ += 2;
        };
        switch (c) {
            case 's': return replace("\\p{White_Space}");
            case 'S': return replace("\\P{White_Space}");
            case 'w':
            case 'W': at_ += 2; return property("word", c == 'W');
            case 'd':
            case 'D': at_ += 2; return property("nd", c == 'D');
            case 'b':
            case 'B':
                if (!in_class_) refuse(2, "a word boundary", "use (?<=...) and (?=...)");
                return take(2);
            case 'h':
            case 'H': refuse(2, "it", "write [ \\t] or [0-9a-fA-F]");
            case 'R':
            case 'X':
            case 'K':
            case 'G':
            case 'C':
            case 'N':
            case 'O':
            case 'y':
            case 'Y':
            case 'Z': refuse(2, "it", "write it with classes and groups");
            case 'p':
            case 'P': return named_property(c == 'P');
            case 'x':
                if (pattern_.compare(at_ + 2, 1, "{") == 0)
                    return take(std::min(pattern_.find('}', at_), pattern_.size()) - at_ + 1);
                return take(2);
            default: return take(2);
        }
    }
    // \p{name}, \p{^name}, \P{name}
    void named_property(bool negated) {
        const size_t close = pattern_.find('}', at_);
        if (pattern_.compare(at_ + 2, 1, "{") != 0 || close == std::string::npos) {
            refuse(2, "a property without braces", "write \\p{...}");
        }
        std::string name;
        for (size_t i = at_ + 3; i < close; ++i) {
            const char c = pattern_[i];
            if (c == '^' && i == at_ + 3) {
                negated = !negated;
            } else if (c != ' ' && c != '-' && c != '_') {
                name += c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
            }
        }
        const std::string text = pattern_.substr(at_, close + 1 - at_);
        at_ = close + 1;
        if (find_property(name) || find_property("!" + name)) return property(name, negated);
        // PCRE2's \p{Han} also contains characters that are used with Han, such as the ideographic full stop.
        const std::string script = concat(negated ? "\\P{sc:" : "\\p{sc:", name, "}");
        result_ += compiles(script) ? script : text;
    }
    static const CharacterProperty* find_property(const std::string& name) {
        const auto* const end = kCharacterProperties + kCharacterPropertyCount;
        const auto* const found =
            std::find_if(kCharacterProperties, end, [&](const auto& p) { return name == p.name; });
        return found == end ? nullptr : found;
    }
    void property(const std::string& name, bool negated) {
        const CharacterProperty* found = find_property(name);
        if (!found) {
            found = find_property("!" + name);
            negated = !negated;
        }
        // In Oniguruma, \w contains these signs too, but not inside a class.
        const char* const signs = name == "word" && !in_class_ ? "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}" : "";
        const std::string inside = concat(found->pcre2, found->younger, signs);
        if (!in_class_) {
            result_ += concat(negated ? "[^" : "[", inside, "]");
        } else if (!negated) {
            result_ += concat(inside, found->pcre2);  // twice, so that a - on either side does not make a range
        } else {
            complements_ += concat("|[^", inside, "]");
        }
    }
    // A class that contains complements becomes alternatives.
    void end_class() {
        in_class_ = false;
        take(1);
        if (complements_.empty()) return;
        const std::string whole = result_.substr(class_start_);
        const bool negated = whole[1] == '^', only_complements = result_.size() == class_inside_ + 1;
        result_.resize(class_start_);
        const std::string one_of =
            only_complements ? complements_.substr(1) : concat("[", whole.substr(negated ? 2 : 1), complements_);
        result_ += negated ? concat("(?:(?!", one_of, ")(?s:.))") : concat("(?:", one_of, ")");
        complements_.clear();
    }
    void in_class() {
        const char c = pattern_[at_];
        if (c == '[') refuse(1, "a class within a class", "write \\[ for the bracket");
        if (c == '&' && pattern_.compare(at_, 2, "&&") == 0) refuse(2, "an intersection of classes", "use (?=...)");
        if (c == ']') return end_class();
        take(1);
    }
    void group() {
        if (pattern_.compare(at_, 2, "(?") != 0) {
            if (pattern_.compare(at_, 2, "(*") == 0) refuse(2, "a verb", "leave it out");
            return take(1);
        }
        const size_t flags = at_ + 2;
        const size_t end = pattern_.find_first_not_of("imsxaudlnJU-^", flags);
        for (size_t i = flags; i < std::min(end, pattern_.size()); ++i) {
            if (pattern_[i] != 'i' && pattern_[i] != '-') {
                refuse(i + 1 - at_, concat("the option ", pattern_[i]),
                       "Kiln supports only the option i; [\\s\\S] is any character");
            }
        }
        take(2);
    }

    const std::string& pattern_;
    const std::string& where_;
    std::string result_;
    size_t at_ = 0;
    bool in_class_ = false, caret_ = false;
    size_t class_start_ = 0, class_inside_ = 0;  // offsets in result_: of the [ of the open class; after [ or [^
    std::string complements_;                    // of the open class: |[^...] for each complement in it
};

std::string message_of(int pcre2_error) {
    unsigned char message[200] = {};
    pcre2_get_error_message(pcre2_error, message, sizeof message);
    return reinterpret_cast<const char*>(message);
}

}  // namespace

RegexSplitter::RegexSplitter(const std::string& pattern, const std::string& where, bool drop_unmatched,
                             uint64_t work_per_byte)
    : pattern_(pattern), work_per_byte_(work_per_byte), drop_unmatched_(drop_unmatched) {
    if (pattern.empty() || pattern.size() > kMaxPatternBytes || find_invalid_utf8(pattern)) {
        throw UsageError(concat(where, ": a regular expression of ", pattern.size(), " bytes",
                                find_invalid_utf8(pattern) ? " that is not UTF-8" : "", "; it must have 1 to ",
                                kMaxPatternBytes, " bytes of UTF-8"));
    }
    Translator translator(pattern, where);
    const std::string translated = translator.translate();
    const auto compile = [&](uint32_t options) {
        int error;
        PCRE2_SIZE at;
        pcre2_code* const compiled =
            pcre2_compile(units(translated), translated.size(), kCompileOptions | options, &error, &at, nullptr);
        if (!compiled) {
            throw UsageError(concat(where, ": \"", pattern, "\" is not a regular expression: ", message_of(error),
                                    " (near byte ", at, ")"));
        }
        // If it fails on another processor, matching is only slower.
        pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD);
        return compiled;
    };
    code_ = compile(0);
    counting_ = compile(PCRE2_AUTO_CALLOUT);
    quick_ = pcre2_match_context_create(nullptr);
    if (!quick_) throw std::bad_alloc();
    pcre2_set_match_limit(context(quick_), kQuickSteps);
    uint32_t characters = 0;
    pcre2_pattern_info(code(code_), PCRE2_INFO_MAXLOOKBEHIND, &characters);
    looks_behind_ = characters > 0 || translator.has_caret();  // PCRE2 does not count ^
}

RegexSplitter::~RegexSplitter() {
    pcre2_match_context_free(context(quick_));
    pcre2_code_free(code(counting_));
    pcre2_code_free(code(code_));
}

RegexSplitter::Scratch::Scratch(const RegexSplitter& pattern)
    : data(pcre2_match_data_create_from_pattern(code(pattern.code_), nullptr)), counting(nullptr) {
    if (!data) throw std::bad_alloc();
}

RegexSplitter::Scratch::~Scratch() {
    pcre2_match_context_free(context(counting));
    pcre2_match_data_free(static_cast<pcre2_match_data*>(data));
}

int RegexSplitter::search(std::string_view text, size_t end, size_t from, bool open, bool counted,
                          Scratch& scratch) const {
    if (counted && !scratch.counting) {
        scratch.counting = pcre2_match_context_create(nullptr);
        if (!scratch.counting) throw std::bad_alloc();
        const auto count = [](pcre2_callout_block* step, void* data) {
            Scratch& s = *static_cast<Scratch*>(data);
            const size_t at = step->current_position;
            s.work += 1 + (at > s.at ? at - s.at : s.at - at);
            s.at = at;
            return s.work > s.allowed ? PCRE2_ERROR_MATCHLIMIT : 0;
        };
        pcre2_set_callout(context(scratch.counting), count, &scratch);
        pcre2_set_match_limit(context(scratch.counting), UINT32_MAX);
        pcre2_set_heap_limit(context(scratch.counting), kHeapKiB);
    }
    const pcre2_code* const compiled = code(counted ? counting_ : code_);
    pcre2_match_context* const how = context(counted ? scratch.counting : quick_);
    scratch.allowed = work_per_byte_ * (end + kFreeBytes);
    scratch.at = from;
    const auto match = [&](uint32_t options) {
        // With `open`, a match that reaches the end is a partial one.
        return pcre2_match(compiled, units(text), end, from, options | (open ? PCRE2_PARTIAL_HARD : 0),
                           static_cast<pcre2_match_data*>(scratch.data), how);
    };
    const int found = match(0);
    // Compiled code has a small stack; the interpreter uses the heap.
    return found == PCRE2_ERROR_JIT_STACKLIMIT ? match(PCRE2_NO_JIT) : found;
}

bool RegexSplitter::find(std::string_view text, size_t from, bool open, Scratch& scratch, Match& match) const {
    const PCRE2_SIZE* const bounds = pcre2_get_ovector_pointer(static_cast<pcre2_match_data*>(scratch.data));
    bool counted = false;
    for (size_t window = kWindow;;) {
        size_t end = text.size() - from > window ? from + window : text.size();
        // Not within a character, which has at most three bytes after its first one.
        for (int i = 0; i < 3 && end < text.size() && (text[end] & 0xC0) == 0x80; i++) end--;
        const bool whole = end == text.size();
        const int found = search(text, end, from, open || !whole, counted, scratch);
        if (found == PCRE2_ERROR_MATCHLIMIT && !counted) {
            counted = true;
        } else if (found == PCRE2_ERROR_PARTIAL && !whole) {
            counted = true;
            from = bounds[0];
            window *= 4;
        } else if (!whole && (found == PCRE2_ERROR_NOMATCH || (found > 0 && bounds[0] == end))) {
            from = end;  // what lies behind it may decide whether an empty match is there
        } else if (found == PCRE2_ERROR_NOMATCH || found == PCRE2_ERROR_PARTIAL) {
            match.begin = found == PCRE2_ERROR_PARTIAL ? bounds[0] : text.size();
            return false;
        } else if (found > 0) {
            match.begin = bounds[0];
            match.end = std::max(bounds[0], bounds[1]);
            return true;
        } else {
            const std::string around(text.substr(from, kExcerptBytes));
            throw Error(concat("the pre-tokenizer's regular expression ", pattern_.substr(0, kExcerptBytes),
                               pattern_.size() > kExcerptBytes ? "..." : "", " fails at byte ", from, " of a text of ",
                               text.size(), " bytes, at \"", replace_invalid_utf8(around), "\": PCRE2 says \"",
                               message_of(found),
                               "\"; it probably looks far ahead at every place, or tries too many ways to match. "
                               "Possessive quantifiers, or limits such as {1,100}, help"));
        }
    }
}

size_t RegexSplitter::next_character(std::string_view text, size_t at) {
    uint32_t code_point;
    if (at >= text.size()) return at + 1;
    return at + std::max(1, decode_utf8(text.data() + at, text.data() + text.size(), code_point));
}

}  // namespace kiln
