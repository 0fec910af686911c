#include "tokenizer/prepare/json_members.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "cpu_reference/interface/error.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {
namespace {

constexpr size_t kMaxMembers = 100'000;  // a short one has 5 bytes in a file and 80 in memory
constexpr int kMaxDepth = 1000;          // about Python's limit; value() recurses

class Reader {
public:
    explicit Reader(std::string_view text) : text_(text) {}

    std::vector<JsonMember> object() {
        std::vector<JsonMember> members;
        JsonMember whole;
        if (next() == '{') {
            read_object(0, &members);
        } else {
            read_value(whole, 0);
        }
        if (next() != '\0' || at_ < text_.size()) fail("end of input");
        KILN_CHECK(whole.type[0] == '\0', "a record { ... } is expected, not ", whole.type);
        return members;
    }

private:
    [[noreturn]] void fail(const char* expected) const {
        const std::string found = at_ < text_.size() ? concat("'", text_[at_], "'") : "end of the record";
        throw Error(
            concat("not a JSON record: at its byte ", at_ + 1, ": unexpected ", found, "; expected ", expected));
    }
    char here() const { return at_ < text_.size() ? text_[at_] : '\0'; }
    char next() {
        while (here() == ' ' || here() == '\t' || here() == '\n' || here() == '\r') at_++;
        return here();
    }
    void expect(char c, const char* name) {
        if (next() != c) fail(name);
        at_++;
    }
    bool take(std::string_view word) {
        const bool found = text_.substr(at_).starts_with(word);
        if (found) at_ += word.size();
        return found;
    }

    void read_value(JsonMember& value, int depth) {
        KILN_CHECK(depth < kMaxDepth, "not a JSON record: nested deeper than ", kMaxDepth, " levels");
        const char c = next();
        if (c == '"') {
            value.type = "string";
            read_string(value.text, value.half_of_pair);
        } else if (c == '{') {
            value.type = "object";
            read_object(depth, nullptr);
        } else if (c == '[') {
            value.type = "array";
            read_array(depth);
        } else if (take("true") || take("false")) {
            value.type = "boolean";
        } else if (take("null")) {
            value.type = "null";
        } else {
            value.type = "number";
            if (!take("NaN") && !take("Infinity") && !take("-Infinity")) read_number();
        }
    }

    void read_object(int depth, std::vector<JsonMember>* members) {
        at_++;
        if (next() == '}') {
            at_++;
            return;
        }
        for (;;) {
            JsonMember member;
            bool half = false;
            if (next() != '"') fail("string literal");
            read_string(member.key, half);
            expect(':', "':'");
            read_value(member, depth + 1);
            if (members) members->push_back(std::move(member));
            KILN_CHECK(!members || members->size() <= kMaxMembers, "a record of more than ", kMaxMembers, " fields");
            if (next() == '}') break;
            expect(',', "',' or '}'");
        }
        at_++;
    }

    void read_array(int depth) {
        at_++;
        if (next() == ']') {
            at_++;
            return;
        }
        for (JsonMember element;; element = {}) {
            read_value(element, depth + 1);
            if (next() == ']') break;
            expect(',', "',' or ']'");
        }
        at_++;
    }

    void read_digits() {
        if (here() < '0' || here() > '9') fail("a digit");
        while (here() >= '0' && here() <= '9') at_++;
    }
    void read_number() {
        if (here() != '-' && (here() < '0' || here() > '9')) fail("a value");
        if (here() == '-') at_++;
        if (!take("0")) read_digits();
        if (take(".")) read_digits();
        if (take("e") || take("E")) {
            if (!take("+")) take("-");
            read_digits();
        }
    }

    uint32_t read_hex() {
        uint32_t value = 0;
        for (const size_t end = at_ + 4; at_ < end; at_++) {
            const char c = here(), lower = char(c | 32);
            const bool digit = c >= '0' && c <= '9', letter = lower >= 'a' && lower <= 'f';
            if (!digit && !letter) fail("four hexadecimal digits");
            value = value << 4 | uint32_t(digit ? c - '0' : lower - 'a' + 10);
        }
        return value;
    }
    void read_string(std::string& out, bool& half_of_pair) {
        for (at_++;;) {
            const size_t begin = at_;
            while (at_ < text_.size() && static_cast<unsigned char>(text_[at_]) >= 0x20 && text_[at_] != '"' &&
                   text_[at_] != '\\') {
                at_++;
            }
            out += text_.substr(begin, at_ - begin);
            if (here() == '"') break;
            if (here() != '\\') fail("'\"', or an escape in place of a control character");
            at_++;
            constexpr std::string_view kEscapes = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
            if (take("u")) {
                uint32_t code_point = read_hex();
                const bool high = code_point >= 0xD800 && code_point < 0xDC00;
                if (high && take("\\u")) {
                    const uint32_t low = read_hex();
                    if (low >= 0xDC00 && low < 0xE000) {
                        code_point = 0x10000 + ((code_point - 0xD800) << 10) + (low - 0xDC00);
                    } else {
                        at_ -= 6;  // another character
                    }
                }
                half_of_pair = half_of_pair || (code_point >= 0xD800 && code_point < 0xE000);
                append_utf8(out, code_point);
            } else if (const size_t i = kEscapes.find(here()); i != kEscapes.npos) {
                out += kMeanings[i];
                at_++;
            } else {
                fail("an escape");
            }
        }
        at_++;
    }

    const std::string_view text_;
    size_t at_ = 0;
};

}  // namespace

std::vector<JsonMember> json_members(std::string_view record) {
    return Reader(record).object();
}

const JsonMember* find_member(const std::vector<JsonMember>& members, std::string_view key) {
    const auto found =
        std::find_if(members.rbegin(), members.rend(), [&](const JsonMember& member) { return member.key == key; });
    return found == members.rend() ? nullptr : &*found;
}

}  // namespace kiln
