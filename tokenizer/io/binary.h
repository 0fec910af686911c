#pragma once
// Tells text from other data by its first bytes.
#include <string>
#include <string_view>

namespace kiln {

// Says what a file is that begins with `head`, with advice, such as "is a ZIP archive; unpack it first"; empty for
// text.
std::string not_text(std::string_view head);

// How to make a file that Kiln reads from one that it does not, by the file's first bytes if they tell, else by its
// extension; empty: not known.
std::string conversion_of(std::string_view extension, std::string_view head = {});

}  // namespace kiln
