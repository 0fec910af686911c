#pragma once
// Tells text from other data by its first bytes.
#include <string>
#include <string_view>

namespace kiln {

// Says what a file is that begins with `head`, with advice, such as "is a ZIP archive; unpack it first"; empty for
// text.
std::string not_text(std::string_view head);

// "utf-16le" or "utf-16be" if the order of the bytes is clear: of the two bytes of a character, the high one varies
// less.
std::string utf16_order(std::string_view head);

// Says what a file is, with advice if there is any, by its first bytes if they tell, else by its extension; empty if
// Kiln may read it.
std::string conversion_of(std::string_view extension, std::string_view head = {});

}  // namespace kiln
