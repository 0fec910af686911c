#pragma once
// The names that other programs give to Kiln's options and commands.
#include <string>
#include <string_view>
#include <vector>

namespace kiln {

// The option in `names` ("--batch-size", "-b") that an unknown option most likely means: the synonym if another program
// has this name ("--max-length"), else the name that is spelled most similarly.
std::string meant_option(std::string_view unknown, const std::vector<std::string>& names);

// What to use instead of a command of kiln that does not exist, as the end of "did you mean ...?".
std::string meant_command(std::string_view unknown, const std::vector<std::string>& names);

}  // namespace kiln
