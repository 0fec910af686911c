#pragma once
// Reads one JSON object by the rules of Python's json module, which most data sets were written with: NaN, Infinity and
// -Infinity are numbers, a number may have any size, and half of a surrogate pair may stand in a string.
#include <string>
#include <string_view>
#include <vector>

namespace kiln {

struct JsonMember {
    std::string key;
    const char* type = "";      // "string", "number", "boolean", "null", "array" or "object"
    std::string text;           // of a string
    bool half_of_pair = false;  // the string holds half of a surrogate pair, which UTF-8 cannot express
};

// The members in order; a key may stand twice. Throws Error with the byte if `record` is not a JSON object.
std::vector<JsonMember> json_members(std::string_view record);
// The last member with this key, as in Python; nullptr: there is none.
const JsonMember* find_member(const std::vector<JsonMember>& members, std::string_view key);

}  // namespace kiln
