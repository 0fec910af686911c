#pragma once
// The width of a terminal, and text that is safe to print on it.
#include <string>
#include <string_view>

namespace kiln {

// The columns of the terminal that `fd` writes to, or 80 if it does not tell them; 0: `fd` is no terminal.
int terminal_columns(int fd);

// Replaces control characters, which a terminal obeys, by escapes such as \x1b, except those in `kept` and a \r before
// a \n.
std::string printable(std::string_view text, std::string_view kept = {});

}  // namespace kiln
