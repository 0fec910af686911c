#pragma once
// Reads JSON that may hold anything: each function checks the type of the member that it returns, and a message names
// the file, the member and what is wrong with it.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace kiln {

// One JSON object. `where` begins every message. If a member is absent or null, the functions return `absent`, or throw
// Error if that is not given.
class JsonReader {
public:
    // Not ordered_json, which takes O(n^2) comparisons for n keys.
    using Json = nlohmann::json;

    // Throws Error that begins with `name` if the text is not JSON, is nested more than 64 levels deep, or holds a
    // number beyond the range of a double.
    static Json parse(std::string_view text, const std::string& name);

    JsonReader(const Json& json, std::string where);  // throws Error if `json` is not an object
    const std::string& where() const { return where_; }
    const Json& member(const char* key) const;  // not checked; null if it is absent
    JsonReader object(const char* key) const;
    const Json& array(const char* key) const;
    std::string string(const char* key, const std::optional<std::string>& absent = std::nullopt) const;
    bool boolean(const char* key, std::optional<bool> absent = std::nullopt) const;
    int64_t integer(const char* key, int64_t min, int64_t max, std::optional<int64_t> absent = std::nullopt) const;
    uint64_t uint64(const char* key) const;
    // For an option that Kiln does not support: it may only be absent or switched off.
    void refuse(const char* key) const;

private:
    const Json* find(const char* key, bool optional, bool (Json::*has_type)() const noexcept, const char* type) const;

    const Json& json_;
    std::string where_;
};

// The first `most` bytes, with spaces in place of control characters, and "..." if more follow.
std::string excerpt(std::string_view text, size_t most = 60);
// The text of a scalar; the size of an array or an object.
std::string describe(const JsonReader::Json& json);
// The id of `token` (empty: `where` names the token): 0 to 2^31 - 1. Throws Error.
int read_id(const JsonReader::Json& json, const std::string& where, std::string_view token = {});

}  // namespace kiln
