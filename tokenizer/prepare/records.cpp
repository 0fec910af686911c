#include <simdjson.h>
#include <algorithm>
#include <nlohmann/json.hpp>

#include "cpu_reference/interface/error.h"
#include "tokenizer/prepare/record_scanner.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {

using nlohmann::json;
using Keys = std::vector<std::string>;

namespace {

// A larger record that simdjson refuses is not parsed again, since nlohmann's tree needs many times its size.
constexpr size_t kMaxSecondLook = size_t(16) << 20;

std::string quoted(const Keys& keys) {
    std::string text;
    for (const std::string& key : keys) text += concat(text.empty() ? "" : " or ", '"', key, '"');
    return text;
}

bool equal_but_case(std::string_view a, std::string_view b) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; };
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return lower(x) == lower(y); });
}

// Explains a record that lacks the wanted field, if it is of a known kind.
std::string kind_of(const json& record) {
    for (const char* name : {"conversations", "conversation", "messages"}) {
        const auto found = record.find(name);
        if (found == record.end() || !found->is_array()) continue;
        return concat("it is a conversation (", name,
                      ": a list of {from, value} or {role, content}), and `kiln prepare` takes plain text; write each "
                      "conversation out as one text, with the template of the model, in a field \"text\"");
    }
    if (record.contains("instruction") && record.contains("output")) {
        return concat(
            "it is an instruction record as in Alpaca and Belle (instruction, input, output), and `kiln "
            "prepare` takes plain text; --text-key output takes only the answers; to use all of it, write each "
            "record out as one text, with the template of the model, in a field \"text\"");
    }
    return "";
}

[[noreturn]] void throw_no_field(const json& record, const Keys& text_keys) {
    const std::string what = "the record has no field " + quoted(text_keys);
    const std::string kind = kind_of(record);
    if (!kind.empty()) throw Error(concat(what, ": ", kind));
    std::string names;
    for (const auto& item : record.items()) {
        if (names.size() > 200) {
            names += ", ...";
            break;
        }
        names += (names.empty() ? "" : ", ") + item.key();
    }
    throw Error(concat(what, " (it has: ", names, "); name the one that holds the text with --text-key"));
}

// The parser's message: what is wrong and what it expected, without its internals.
std::string reason_of(const json::parse_error& error) {
    std::string what = error.what();
    const size_t dash = what.find(" - ");
    what.erase(0, dash != what.npos ? dash + 3 : what.find("] ") + 2);
    const size_t read = what.find("; last read: '"), expected = what.rfind("; expected ");
    if (read < expected) what.erase(read, expected == what.npos ? what.npos : expected - read);
    return what;
}

// Throws the reason why simdjson refused the record. Or returns its text: simdjson also refuses numbers beyond 64 bits.
std::string second_look(std::string_view record, const Keys& text_keys) {
    if (const auto bad = find_invalid_utf8(record)) {
        throw Error(concat("not a JSON record: its byte ", *bad, " (value ",
                           int(static_cast<unsigned char>(record[*bad])), ") is not UTF-8; ", kEncodingHint));
    }
    try {
        json value = json::parse(record);
        KILN_CHECK(value.is_object(), "a record {\"", text_keys[0], "\": ...} is expected, not ", value.type_name());
        for (const std::string& key : text_keys) {
            const auto found = value.find(key);
            if (found == value.end()) continue;
            KILN_CHECK(found->is_string(), "the field \"", key, "\" holds ", found->type_name(),
                       " where text is expected");
            return std::move(found->get_ref<std::string&>());
        }
        throw_no_field(value, text_keys);
    } catch (const json::parse_error& error) {
        throw Error(concat("not a JSON record: at its byte ", error.byte, ": ", reason_of(error)));
    } catch (const json::exception& error) {
        std::string_view what = error.what();
        what.remove_prefix(std::min(what.size(), what.find("] ") + 2));  // the exception's number
        throw Error(concat("not a JSON record: ", what));
    }
}

}  // namespace

struct JsonRecords::Parser {
    simdjson::dom::parser value;
};

JsonRecords::JsonRecords() : parser_(std::make_unique<Parser>()) {}
JsonRecords::~JsonRecords() = default;

std::string_view JsonRecords::text(std::string_view record, const Keys& text_keys) {
    static_assert(kPadding >= simdjson::SIMDJSON_PADDING);
    // A long record makes the parser allocate many times its length. Do not keep this memory for short records.
    constexpr size_t kLong = size_t(4) << 20;
    if (parser_->value.capacity() > kLong && record.size() < kLong / 4) parser_ = std::make_unique<Parser>();
    simdjson::dom::object object;
    const auto error = parser_->value.parse(record.data(), record.size(), false).get(object);
    if (!error) {
        for (const std::string& key : text_keys) {
            simdjson::dom::element field;
            std::string_view text;
            if (object.at_key(key).get(field)) continue;
            if (field.get(text)) break;
            return text;
        }
    }
    KILN_CHECK(record.size() <= kMaxSecondLook, "not a JSON record with a text ", quoted(text_keys),
               error ? concat(": ", simdjson::error_message(error)) : "");
    text_ = second_look(record, text_keys);
    return text_;
}

std::vector<std::string> csv_fields(std::string_view row, char delimiter) {
    if (row.ends_with('\r')) row.remove_suffix(1);
    std::vector<std::string> fields(1);
    for (size_t at = 0;; at++) {
        std::string& field = fields.back();
        if (at < row.size() && row[at] == '"') {
            for (at++;; at++) {
                const size_t quote = row.find('"', at);
                KILN_CHECK(quote != row.npos, "a quote opens in column ", fields.size(), " and does not close");
                field += row.substr(at, quote - at);
                at = quote + 1;
                if (at == row.size() || row[at] != '"') break;
                field += '"';
            }
            KILN_CHECK(at >= row.size() || row[at] == delimiter, "in column ", fields.size(),
                       " there is more after the closing quote; a quote within quotes is written twice");
        } else {
            const size_t end = std::min(row.find(delimiter, at), row.size());
            field = row.substr(at, end - at);
            at = end;
        }
        if (at >= row.size()) return fields;
        fields.emplace_back();
    }
}

std::string csv_text(std::string_view row, const CsvLayout& layout) {
    std::vector<std::string> fields = csv_fields(row, layout.delimiter);
    KILN_CHECK(fields.size() == layout.columns, "columns: ", fields.size(), " where the header has ", layout.columns,
               "; a field with ", layout.delimiter == '\t' ? "tabs" : "commas", " or newlines needs quotes");
    return std::move(fields[layout.text]);
}

CsvLayout csv_layout(std::string_view header, char delimiter, const Keys& text_keys) {
    const std::vector<std::string> names = csv_fields(header, delimiter);
    for (const std::string& key : text_keys) {
        auto found = std::find(names.begin(), names.end(), key);
        if (found == names.end()) {
            found = std::find_if(names.begin(), names.end(), [&](const auto& n) { return equal_but_case(n, key); });
        }
        if (found != names.end()) return {delimiter, names.size(), size_t(found - names.begin())};
    }
    std::string list;
    for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
    throw Error(concat("the header has no column ", quoted(text_keys), " (it has: ", list.substr(0, 200),
                       "); name the one that holds the text with --text-key"));
}

}  // namespace kiln
