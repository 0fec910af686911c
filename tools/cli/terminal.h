#pragma once
// What a terminal tells about itself, and what it may be sent.
#include <string>
#include <string_view>

namespace kiln {

// The columns of the terminal that `fd` writes to, or 80 if it does not tell them; 0: `fd` is no terminal.
int terminal_columns(int fd);

// The text with escapes such as \x1b for control characters, which a terminal obeys, except those in `kept` and \r\n.
std::string printable(std::string_view text, std::string_view kept = {});

}  // namespace kiln
