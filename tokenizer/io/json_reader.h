#pragma once
// Reads JSON that may hold anything: every member's type is checked, and a message names the file, the member and what
// is wrong with it.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace kiln {

// One JSON object. `where` begins every message. A member that is absent or null is an error, unless `absent` gives its
// value.
class JsonReader {
public:
    // Its objects are a std::map: those of ordered_json compare each new key with all keys before it.
    using Json = nlohmann::json;

    // Throws Error with `name` and the byte if the text is not JSON, or nested more than 64 levels deep.
    static Json parse(std::string_view text, const std::string& name);

    JsonReader(const Json& json, std::string where);  // throws Error if `json` is not an object
    const std::string& where() const { return where_; }
    const Json& member(const char* key) const;  // of any type; null if it is absent
    JsonReader object(const char* key) const;
    const Json& array(const char* key) const;
    std::string string(const char* key, const std::optional<std::string>& absent = std::nullopt) const;
    bool boolean(const char* key, std::optional<bool> absent = std::nullopt) const;
    int64_t integer(const char* key, int64_t min, int64_t max, std::optional<int64_t> absent = std::nullopt) const;
    uint64_t word(const char* key) const;  // any of 64 bits
    // For an option that Kiln does not support: it may only be absent or switched off.
    void refuse(const char* key) const;

private:
    const Json* find(const char* key, bool optional, bool (Json::*has_type)() const noexcept, const char* type) const;

    const Json& json_;
    std::string where_;
};

// At most `most` bytes, without control characters.
std::string excerpt(std::string_view text, size_t most = 60);
// The text of a scalar; the size of an array or an object.
std::string describe(const JsonReader::Json& json);
// The id of `token` (empty: `where` names the token): 0 to 2^31 - 1. Throws Error.
int read_id(const JsonReader::Json& json, const std::string& where, std::string_view token = {});

}  // namespace kiln
