#pragma once
// The part of TOML that options need: `name = value` lines, where a value is a text, a number, true, false or a list of
// these. Tables, dates and nested values are refused. Full TOML libraries (toml++ 3.3, toml11 3.7, cpptoml 0.1) crash
// on some files: deep nesting overflows their stacks, and an assertion of toml++ fails.
#include <string>
#include <string_view>
#include <vector>

namespace kiln {

struct TomlEntry {
    size_t line = 0;  // of the name, from 1
    std::string name;
    std::vector<std::string> texts = {};  // as on the command line: strings decoded, numbers without underscores
};

// In the order of the file. Texts may hold any bytes except NUL, since file names do. Throws UsageError that begins
// with `file` and the line.
std::vector<TomlEntry> parse_toml(std::string_view text, const std::string& file);

std::string quote_toml(std::string_view text);  // the text as parse_toml reads it back

}  // namespace kiln
