#include <simdjson.h>
#include <algorithm>

#include "cpu_reference/interface/error.h"
#include "tokenizer/prepare/json_members.h"
#include "tokenizer/prepare/record_scanner.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {

using Keys = std::vector<std::string>;

namespace {

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
std::string kind_of(const std::vector<JsonMember>& record) {
    for (const char* name : {"conversations", "conversation", "messages"}) {
        const JsonMember* found = find_member(record, name);
        if (!found || std::string_view(found->type) != "array") continue;
        return concat("it is a conversation (", name,
                      ": a list of {from, value} or {role, content}), and `kiln prepare` takes plain text; write each "
                      "conversation out as one text, with the template of the model, in a field \"text\"");
    }
    if (find_member(record, "instruction") && find_member(record, "output")) {
        return concat(
            "it is an instruction record as in Alpaca and Belle (instruction, input, output), and `kiln "
            "prepare` takes plain text; --text-key output takes only the answers; to use all of it, write each "
            "record out as one text, with the template of the model, in a field \"text\"");
    }
    return "";
}

[[noreturn]] void throw_no_field(const std::vector<JsonMember>& record, const Keys& text_keys) {
    const std::string what = "the record has no field " + quoted(text_keys);
    const std::string kind = kind_of(record);
    if (!kind.empty()) throw Error(concat(what, ": ", kind));
    std::string names;
    for (const JsonMember& member : record) {
        if (names.size() > 200) {
            names += ", ...";
            break;
        }
        names += (names.empty() ? "" : ", ") + member.key;
    }
    throw Error(concat(what, " (it has: ", names, "); name the one that holds the text with --text-key"));
}

// The text of a long record, or of one that simdjson refused, or the reason why it has none. simdjson follows the
// standard: it refuses NaN and numbers beyond 64 bits anywhere in the record.
std::string second_look(std::string_view record, const Keys& text_keys) {
    if (const auto bad = find_invalid_utf8(record)) {
        throw Error(concat("not a JSON record: its byte ", *bad, " (value ",
                           int(static_cast<unsigned char>(record[*bad])), ") is not UTF-8; ",
                           encoding_hint(record, *bad)));
    }
    const std::vector<JsonMember> members = json_members(record);
    for (const std::string& key : text_keys) {
        const JsonMember* found = find_member(members, key);
        if (!found) continue;
        KILN_CHECK(std::string_view(found->type) == "string", "the field \"", key, "\" holds ", found->type,
                   " where text is expected");
        KILN_CHECK(!found->half_of_pair, "the field \"", key,
                   "\" holds half of a surrogate pair, which is not a character");
        return found->text;
    }
    throw_no_field(members, text_keys);
}

}  // namespace

struct JsonRecords::Parser {
    simdjson::dom::parser value;
};

JsonRecords::JsonRecords() : parser_(std::make_unique<Parser>()) {}
JsonRecords::~JsonRecords() = default;

std::string_view JsonRecords::text(std::string_view record, const Keys& text_keys) {
    static_assert(kPadding >= simdjson::SIMDJSON_PADDING);
    constexpr size_t kLong = size_t(4) << 20;  // simdjson allocates 13 times the length of a record
    if (record.size() > kLong) return text_ = second_look(record, text_keys);
    simdjson::dom::object object;
    const auto error = parser_->value.parse(record.data(), record.size(), false).get(object);
    if (!error) {
        for (const std::string& key : text_keys) {
            simdjson::dom::element found;
            bool present = false;
            for (const auto field : object) {  // the last one counts if a key stands twice, as in Python
                if (field.key == key) found = field.value, present = true;
            }
            std::string_view text;
            if (!present) continue;
            if (found.get(text)) break;
            return text;
        }
    }
    text_ = second_look(record, text_keys);
    return text_;
}

namespace {

// Calls take(column, field) for each field of a row without its newline, and returns their number. Throws Error if a
// quote is out of place. It keeps no fields, since a row may have as many as bytes.
template <class Take>
size_t for_each_field(std::string_view row, char delimiter, Take&& take) {
    if (row.ends_with('\r')) row.remove_suffix(1);
    std::string field;
    for (size_t at = 0, column = 1;; at++, column++) {
        field.clear();
        if (at < row.size() && row[at] == '"') {
            for (at++;; at++) {
                const size_t quote = row.find('"', at);
                KILN_CHECK(quote != row.npos, "a quote opens in column ", column, " and does not close");
                field += row.substr(at, quote - at);
                at = quote + 1;
                if (at == row.size() || row[at] != '"') break;
                field += '"';
            }
            KILN_CHECK(at >= row.size() || row[at] == delimiter, "in column ", column,
                       " there is more after the closing quote; a quote within quotes is written twice");
        } else {
            const size_t end = std::min(row.find(delimiter, at), row.size());
            field = row.substr(at, end - at);
            at = end;
        }
        take(column - 1, field);
        if (at >= row.size()) return column;
    }
}

// Spreadsheets write semicolons where the comma is the decimal mark.
std::string csv_advice(const std::vector<std::string>& names, char delimiter) {
    const size_t other = names.size() == 1 ? names[0].find_first_of(delimiter == '\t' ? ",;|" : ";|\t") : names[0].npos;
    if (other == names[0].npos) return "; name the one that holds the text with --text-key";
    if (names[0][other] == '\t') return "; its columns seem to be separated by tabs: read it with --format tsv";
    return concat("; its columns seem to be separated by '", names[0][other], "': save it with ",
                  delimiter == '\t' ? "tabs" : "commas");
}

}  // namespace

std::string csv_text(std::string_view row, const CsvLayout& layout) {
    std::string text;
    const size_t columns = for_each_field(row, layout.delimiter, [&](size_t column, std::string& field) {
        if (column == layout.text) text = std::move(field);
    });
    KILN_CHECK(columns == layout.columns, "columns: ", columns, " where the header has ", layout.columns,
               "; a field with ", layout.delimiter == '\t' ? "tabs" : "commas", " or newlines needs quotes");
    return text;
}

CsvLayout csv_layout(std::string_view header, char delimiter, const Keys& text_keys) {
    std::vector<std::string> names;
    for_each_field(header, delimiter, [&](size_t, std::string& name) { names.push_back(std::move(name)); });
    for (const std::string& key : text_keys) {
        auto found = std::find(names.begin(), names.end(), key);
        if (found == names.end()) {
            found = std::find_if(names.begin(), names.end(), [&](const auto& n) { return equal_but_case(n, key); });
        }
        if (found != names.end()) return {delimiter, names.size(), size_t(found - names.begin())};
    }
    std::string list;
    for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
    throw Error(concat("the header has no column ", quoted(text_keys), " (it has: ", list.substr(0, 200), ")",
                       csv_advice(names, delimiter)));
}

}  // namespace kiln
