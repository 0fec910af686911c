#include "tokenizer/io/json_reader.h"

#include <algorithm>

#include "cpu_reference/interface/error.h"

namespace kiln {
namespace {

constexpr int kMaxDepth = 64;  // tokenizer.json needs 8

bool is_integer_in(const JsonReader::Json& json, int64_t min, int64_t max) {
    if (json.is_number_unsigned() && json.get<uint64_t>() > uint64_t(max)) return false;  // which int64_t may not hold
    return json.is_number_integer() && json.get<int64_t>() >= min && json.get<int64_t>() <= max;
}

}  // namespace

std::string excerpt(std::string_view text, size_t most) {
    std::string quoted(text.substr(0, most));
    std::replace_if(
        quoted.begin(), quoted.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
    return text.size() > most ? quoted + "..." : quoted;
}

std::string describe(const JsonReader::Json& json) {
    // Only scalars are printed: a dump of a large value would cost more than the message is worth.
    if (json.is_string()) return concat("\"", excerpt(json.get_ref<const std::string&>()), "\"");
    if (json.is_primitive()) return json.dump();
    return json.is_array() ? concat("an array of ", json.size()) : concat("an object of ", json.size());
}

int read_id(const JsonReader::Json& json, const std::string& where, std::string_view token) {
    // A message costs time, and there are 100,000 ids.
    if (!is_integer_in(json, 0, INT32_MAX)) {
        throw Error(concat(where, token.empty() ? "" : concat(": token \"", excerpt(token), "\""),
                           ": its id must be a whole number from 0 to ", INT32_MAX, ", is ", describe(json)));
    }
    return json.get<int>();
}

JsonReader::Json JsonReader::parse(std::string_view text, const std::string& name) {
    int depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\') ++i;
            if (c == '"') in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            KILN_CHECK(++depth <= kMaxDepth, name, ": byte ", i, ": nested deeper than ", kMaxDepth, " levels");
        } else if (c == ']' || c == '}') {
            --depth;
        }
    }
    try {
        return Json::parse(text);
    } catch (const Json::parse_error& error) {
        throw Error(
            concat(name, ": byte ", error.byte, " of ", text.size(), ": not JSON, or cut short; get the file again"));
    } catch (const Json::out_of_range&) {
        throw Error(concat(name, ": holds a number beyond those of a double; get the file again"));
    }
}

JsonReader::JsonReader(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    KILN_CHECK(json.is_object(), where_, ": must be an object, but is ", describe(json));
}

const JsonReader::Json& JsonReader::member(const char* key) const {
    static const Json kNull;
    const auto found = json_.find(key);
    return found == json_.end() ? kNull : *found;
}

// Null if an optional member is absent.
const JsonReader::Json* JsonReader::find(const char* key, bool optional, bool (Json::*has_type)() const noexcept,
                                         const char* type) const {
    const Json& value = member(key);
    if (value.is_null() && optional) return nullptr;
    KILN_CHECK((value.*has_type)(), where_, ": \"", key, "\" must be ", type,
               value.is_null() ? ", but is missing" : ", is " + describe(value));
    return &value;
}

JsonReader JsonReader::object(const char* key) const {
    return {member(key), concat(where_, ": ", key)};
}

const JsonReader::Json& JsonReader::array(const char* key) const {
    return *find(key, false, &Json::is_array, "an array");
}

std::string JsonReader::string(const char* key, const std::optional<std::string>& absent) const {
    const Json* value = find(key, absent.has_value(), &Json::is_string, "a string");
    return value ? value->get<std::string>() : *absent;
}

bool JsonReader::boolean(const char* key, std::optional<bool> absent) const {
    const Json* value = find(key, absent.has_value(), &Json::is_boolean, "true or false");
    return value ? value->get<bool>() : *absent;
}

int64_t JsonReader::integer(const char* key, int64_t min, int64_t max, std::optional<int64_t> absent) const {
    const Json* value = find(key, absent.has_value(), &Json::is_number_integer, "a whole number");
    if (!value) return *absent;
    KILN_CHECK(is_integer_in(*value, min, max), where_, ": \"", key, "\" must lie between ", min, " and ", max, ", is ",
               describe(*value));
    return value->get<int64_t>();
}

uint64_t JsonReader::uint64(const char* key) const {
    return find(key, false, &Json::is_number_unsigned, "a whole number from 0 to 2^64 - 1")->get<uint64_t>();
}

void JsonReader::refuse(const char* key) const {
    const Json& value = member(key);
    const bool off =
        value.is_null() || value == Json(false) || value == Json("") || (value.is_number() && value.get<double>() == 0);
    KILN_CHECK(off, where_, ": \"", key, "\" is ", describe(value), ", which Kiln does not support");
}

}  // namespace kiln
