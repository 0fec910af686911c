#pragma once
// JSON that may be anything: every assumption is checked, and messages quote it in a readable way.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace kiln {

// One JSON object whose members are read with their types checked; `where` names it in messages.
class JsonReader {
public:
    // std::map objects: those of ordered_json look for a duplicate key from the front, which is quadratic.
    using Json = nlohmann::json;

    // Throws Error naming `name` and the byte, also on nesting deeper than any tokenizer's.
    static Json parse(std::string_view text, const std::string& name);

    JsonReader(const Json& json, std::string where);  // throws Error unless it is an object
    const std::string& where() const { return where_; }
    const Json& member(const char* key) const;  // null if absent
    std::string string(const char* key) const;
    bool boolean(const char* key, bool absent) const;
    // Something Kiln does not do: the member may only be absent or say "off".
    void refuse(const char* key) const;

private:
    const Json& json_;
    std::string where_;
};

// At most 60 bytes, without control characters.
std::string excerpt(std::string_view text);
// A scalar in full, an array or object by its size.
std::string describe(const JsonReader::Json& json);
// The id of `token` (empty: `where` names it), checked for type and range only.
int64_t read_id(const JsonReader::Json& json, const std::string& where, std::string_view token = {});

}  // namespace kiln
