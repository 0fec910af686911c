#pragma once
// Words that other programs use for what Kiln's programs call otherwise.
#include <string>
#include <string_view>
#include <vector>

namespace kiln {

// The option of `names` ("--batch-size", "-b") that is meant by an unknown one: by its meaning if another program calls
// it so ("--max-length"), else by its letters.
std::string meant_option(std::string_view unknown, const std::vector<std::string>& names);

// What to use instead of a command of kiln that does not exist, as the end of "did you mean ...?".
std::string meant_command(std::string_view unknown, const std::vector<std::string>& names);

}  // namespace kiln
