#pragma once
// Tells text from other data by its first bytes.
#include <string>
#include <string_view>

namespace kiln {

// If a file that begins with `head` is not text, says what it is and what to do ("is a ZIP archive; unpack it first");
// else empty.
std::string not_text(std::string_view head);

// "utf-16le" or "utf-16be" if the order of the bytes is clear: of the two bytes of a character, the high one varies
// less.
std::string utf16_order(std::string_view head);

// Describes a file that Kiln cannot read as text, with advice how to convert it, by its first bytes or, if they are not
// conclusive, by its extension. Empty if Kiln may be able to read it.
std::string conversion_of(std::string_view extension, std::string_view head = {});

}  // namespace kiln
