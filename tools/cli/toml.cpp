#include "tools/cli/toml.h"

#include <algorithm>
#include <charconv>
#include <cstdint>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"
#include "tokenizer/io/json_reader.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {

namespace {

bool is_control(char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
}

// Every loop takes at least one byte a turn, and nothing recurses.
class TomlReader {
public:
    TomlReader(std::string_view text, const std::string& file) : rest_(text), file_(file) {}

    std::vector<TomlEntry> entries() {
        take("\xEF\xBB\xBF");
        std::vector<TomlEntry> entries;
        for (skip_blank(); !rest_.empty(); skip_blank()) {
            if (rest_[0] == '[') fail("options stand in no table; remove the line in brackets");
            TomlEntry entry{.line = line_, .name = name()};
            skip_spaces();
            if (!take("=")) fail("expected = after \"" + entry.name + "\", found " + found(rest_));
            skip_spaces();
            if (take("[")) {
                for (skip_blank(); !take("]"); skip_blank()) {
                    entry.texts.push_back(value());
                    skip_blank();
                    if (!take(",") && !rest_.starts_with(']')) fail("expected , or ] in a list, found " + found(rest_));
                }
            } else {
                entry.texts.push_back(value());
            }
            skip_spaces();
            skip_comment();
            if (!rest_.empty() && !take_newline()) fail("expected the end of the line, found " + found(rest_));
            entries.push_back(std::move(entry));
        }
        return entries;
    }

private:
    [[noreturn]] void fail(const std::string& what) const { throw UsageError(concat(file_, ":", line_, ": ", what)); }

    // What stands there, for messages.
    static std::string found(std::string_view at) {
        if (at.empty()) return "the end of the file";
        const std::string_view start = at.substr(0, 20), line = start.substr(0, start.find_first_of("\r\n"));
        return line.empty() ? "the end of the line" : concat('"', excerpt(line), '"');
    }

    std::string_view advance(size_t bytes) {
        const std::string_view taken = rest_.substr(0, bytes);
        line_ += size_t(std::count(taken.begin(), taken.end(), '\n'));
        rest_.remove_prefix(taken.size());
        return taken;
    }
    bool take(std::string_view expected) {
        if (!rest_.starts_with(expected)) return false;
        advance(expected.size());
        return true;
    }
    bool take_newline() { return take("\n") || take("\r\n"); }
    std::string_view take_all_of(const char* bytes) { return advance(rest_.find_first_not_of(bytes)); }
    void skip_spaces() { take_all_of(" \t"); }
    void skip_comment() {
        if (rest_.starts_with('#')) advance(rest_.find('\n'));
    }
    void skip_blank() {  // spaces, comments and ends of lines
        do {
            skip_spaces();
            skip_comment();
        } while (take_newline());
    }

    std::string name() {
        const std::string_view start = rest_;
        const std::string text = bare_or_quoted();
        if (text.empty() || text.size() > 100) fail("expected the name of an option, found " + found(start));
        return text;
    }
    std::string bare_or_quoted() {
        if (rest_.starts_with('"') || rest_.starts_with('\'')) return string();
        return std::string(take_all_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"));
    }

    std::string value() {
        if (rest_.starts_with('"') || rest_.starts_with('\'')) return string();
        const std::string_view word = rest_.substr(0, rest_.find_first_of(" \t\r\n,]#"));
        std::string text(word.substr(word.starts_with('+') ? 1 : 0));
        std::erase(text, '_');  // 1_000 is 1000
        double number = 0;
        const char* const end = text.data() + text.size();
        const bool is_number = std::from_chars(text.data(), end, number).ptr == end && !text.empty();
        if (!is_number && text != "true" && text != "false") {
            fail("the value must be a text in quotes, a decimal number, true, false or a list of these; found " +
                 found(rest_));
        }
        advance(word.size());
        return text;
    }

    // "a text with \n escapes", 'one without', and both with three quotes, which may span lines.
    std::string string() {
        const char quote = rest_[0];
        std::string end(3, quote), text;
        const bool lines = take(end);
        if (lines) {
            take_newline();
        } else {
            end.resize(1);
            advance(1);
        }
        while (!take(end)) {
            if (rest_.empty()) fail(concat("expected ", end, " at the end of a text, found ", found(rest_)));
            const bool newline = rest_[0] == '\n' || rest_.starts_with("\r\n");
            if (newline ? !lines : is_control(rest_[0]) && rest_[0] != '\t') {
                fail(newline ? concat("expected ", end, " at the end of a text, found ", found(rest_))
                             : "a text cannot hold control characters; write \\u and four hexadecimal digits");
            }
            if (quote == '\'' || !take("\\")) {
                text += advance(1);
            } else if (!lines || !skip_lines()) {
                append_escape(text);
            }
        }
        for (int i = 0; lines && i < 2 && rest_.starts_with(quote); i++)
            text += advance(1);  // """"a""" ends in a quote
        return text;
    }

    // After a backslash: white space that reaches into the next line is left out.
    bool skip_lines() {
        const size_t blank = std::min(rest_.find_first_not_of(" \t\r\n"), rest_.size());
        if (rest_.substr(0, blank).find('\n') == std::string_view::npos) return false;
        advance(blank);
        return true;
    }

    void append_escape(std::string& text) {
        static constexpr std::string_view kLetters = "btnfr\"\\", kBytes = "\b\t\n\f\r\"\\";
        const std::string_view start = rest_;
        const char letter = rest_.empty() ? '\0' : advance(1)[0];
        if (const size_t i = kLetters.find(letter); i < kLetters.size()) {
            text += kBytes[i];
            return;
        }
        const size_t digits = letter == 'u' ? 4 : letter == 'U' ? 8 : 0;
        const std::string_view code = rest_.substr(0, digits);
        uint32_t point = 0;
        const char* const end = code.data() + code.size();
        const bool hex = code.size() == digits && std::from_chars(code.data(), end, point, 16).ptr == end;
        if (digits == 0 || !hex || point == 0 || (point >= 0xD800 && point < 0xE000) || point > 0x10FFFF) {
            fail("a text cannot hold the escape \\ and " + found(start) + "; write \\\\ for a backslash");
        }
        append_utf8(text, point);
        advance(digits);
    }

    std::string_view rest_;
    const std::string& file_;
    size_t line_ = 1;
};

}  // namespace

std::vector<TomlEntry> parse_toml(std::string_view text, const std::string& file) {
    return TomlReader(text, file).entries();
}

std::string quote_toml(std::string_view text) {
    std::string quoted = "\"";
    for (const char c : text) {
        if (is_control(c)) {
            quoted += formatted("\\u%04X", unsigned(c));
        } else {
            quoted += c == '"' || c == '\\' ? std::string{'\\', c} : std::string(1, c);
        }
    }
    return quoted + '"';
}

}  // namespace kiln
