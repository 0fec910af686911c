#include "tokenizer/io/json_reader.h"

#include <algorithm>

#include "cpu_reference/interface/error.h"

namespace kiln {
namespace {

constexpr int kMaxDepth = 64;  // tokenizer.json needs 8

}  // namespace

std::string excerpt(std::string_view text) {
    constexpr size_t kMost = 60;
    std::string quoted(text.substr(0, kMost));
    std::replace_if(
        quoted.begin(), quoted.end(), [](unsigned char c) { return c < 0x20; }, ' ');
    return text.size() > kMost ? quoted + "..." : quoted;
}

std::string describe(const JsonReader::Json& json) {
    // Only scalars are printed: a dump of a large value would cost more than the message is worth.
    if (json.is_string()) return concat("\"", excerpt(json.get_ref<const std::string&>()), "\"");
    if (json.is_primitive()) return json.dump();
    return json.is_array() ? concat("an array of ", json.size()) : concat("an object of ", json.size());
}

int64_t read_id(const JsonReader::Json& json, const std::string& where, std::string_view token) {
    const auto place = [&] { return token.empty() ? where : concat(where, ": token \"", excerpt(token), "\""); };
    KILN_CHECK(json.is_number_integer(), place(), ": its id must be a whole number, is ", describe(json));
    const bool fits = json.is_number_unsigned() ? json.get<uint64_t>() <= INT32_MAX : false;
    KILN_CHECK(fits, place(), ": its id ", describe(json), " is not in 0 to ", INT32_MAX);
    return json.get<int64_t>();
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
            KILN_CHECK(++depth <= kMaxDepth, name, ": byte ", i, ": nested deeper than ", kMaxDepth,
                       " levels; this is no tokenizer");
        } else if (c == ']' || c == '}') {
            --depth;
        }
    }
    try {
        return Json::parse(text);
    } catch (const Json::parse_error& error) {
        throw Error(concat(name, ": byte ", error.byte, " of ", text.size(),
                           ": not JSON, or cut short; fetch or save the file again"));
    } catch (const Json::exception& error) {
        throw Error(concat(name, ": not JSON: ", excerpt(error.what())));
    }
}

JsonReader::JsonReader(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    KILN_CHECK(json.is_object(), where_, ": must be an object, is ", describe(json));
}

const JsonReader::Json& JsonReader::member(const char* key) const {
    static const Json kNull;
    const auto found = json_.find(key);
    return found == json_.end() ? kNull : *found;
}

std::string JsonReader::string(const char* key) const {
    const Json& value = member(key);
    KILN_CHECK(value.is_string(), where_, ": \"", key, "\" must be a string, is ", describe(value));
    return value.get<std::string>();
}

bool JsonReader::boolean(const char* key, bool absent) const {
    const Json& value = member(key);
    if (value.is_null()) return absent;
    KILN_CHECK(value.is_boolean(), where_, ": \"", key, "\" must be true or false, is ", describe(value));
    return value.get<bool>();
}

void JsonReader::refuse(const char* key) const {
    const Json& value = member(key);
    const bool off =
        value.is_null() || value == Json(false) || value == Json("") || (value.is_number() && value.get<double>() == 0);
    KILN_CHECK(off, where_, ": \"", key, "\" is ", describe(value), ", which Kiln does not support");
}

}  // namespace kiln
