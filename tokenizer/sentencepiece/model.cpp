// A .model file is a protocol buffer. Each field is a tag (number << 3 | wire type) and a value; the numbers are from
// SentencePiece's sentencepiece_model.proto.
#include "tokenizer/sentencepiece/model.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <unordered_set>

#include "cpu_reference/interface/error.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {
namespace {

constexpr size_t kMaxPieceBytes = 4000;  // the library allows 8000; its trainer makes up to 16 characters

enum Wire : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

// Reads one message from start to end.
class Message {
public:
    Message(std::string_view file, size_t begin, size_t end, const std::string& name, std::string where)
        : file_(file), position_(begin), end_(end), name_(name), where_(std::move(where)) {}

    // Goes to the next field; false at the end. One of the functions below must then read or skip its value.
    bool next() {
        if (position_ == end_) return false;
        start_ = position_;
        const uint64_t tag = varint();
        check(tag >> 3 >= 1 && tag >> 3 < (1u << 29), "is not the start of a field; this is not a SentencePiece model");
        field_ = static_cast<uint32_t>(tag >> 3);
        wire_ = static_cast<uint32_t>(tag & 7);
        return true;
    }
    uint32_t field() const { return field_; }

    uint64_t number() {
        expect(kVarint);
        return varint();
    }
    bool boolean() { return number() != 0; }
    template <class Enum>
    Enum choice(Enum last) {  // 1 to last
        const uint64_t value = number();
        check(value >= 1 && value <= static_cast<uint64_t>(last), "field ", field_, " is ", value, "; 1 to ",
              static_cast<int>(last), " are known");
        return static_cast<Enum>(value);
    }
    float real() {
        expect(kFixed32);
        float value;
        std::memcpy(&value, file_.data() + take(4), 4);
        return value;
    }
    std::string_view bytes() {
        expect(kBytes);
        const uint64_t length = varint();
        return file_.substr(take(length), length);
    }
    Message message(std::string where) {
        const std::string_view content = bytes();
        const size_t begin = static_cast<size_t>(content.data() - file_.data());
        return {file_, begin, begin + content.size(), name_, std::move(where)};
    }
    void skip() {
        switch (wire_) {
            case kVarint: varint(); break;
            case kFixed64: take(8); break;
            case kBytes: take(varint()); break;
            case kFixed32: take(4); break;
            default: check(false, "field ", field_, " has the unknown wire type ", wire_);
        }
    }
    template <class... Parts>
    void check(bool good, const Parts&... parts) const {
        KILN_CHECK(good, name_, ": byte ", start_, ": ", where_, ": ", parts...);
    }

private:
    void expect(uint32_t wire) { check(wire_ == wire, "field ", field_, " has wire type ", wire_, ", not ", wire); }
    size_t take(uint64_t length) {
        check(length <= end_ - position_, "field ", field_, " has ", length, " bytes, and ", end_ - position_,
              " are left; the file is cut short or broken");
        const size_t begin = position_;
        position_ += length;
        return begin;
    }
    uint64_t varint() {
        uint64_t value = 0;
        for (int shift = 0; shift < 64; shift += 7) {
            check(position_ < end_, "a number is cut short");
            const unsigned char byte = file_[position_++];
            value |= uint64_t(byte & 0x7F) << shift;
            if (byte < 0x80) return value;
        }
        check(false, "a number of more than 64 bits");
        return 0;
    }

    std::string_view file_;
    size_t position_, end_, start_ = position_;
    uint32_t field_ = 0, wire_ = 0;
    const std::string& name_;
    std::string where_;
};

int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// The byte of a piece like "<0x0A>"; -1 if the piece is not a byte.
int byte_of_piece(std::string_view text) {
    if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return -1;
    const int high = hex_digit(text[3]), low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

SentencePiece read_piece(Message message) {
    SentencePiece piece;
    while (message.next()) {
        switch (message.field()) {
            case 1: piece.text = message.bytes(); break;
            case 2: piece.score = message.real(); break;
            case 3: piece.type = message.choice(SentencePiece::Type::byte); break;
            default: message.skip();
        }
    }
    message.check(!piece.text.empty(), "it has no text");
    message.check(piece.text.size() <= kMaxPieceBytes, "it has ", piece.text.size(), " bytes; at most ", kMaxPieceBytes,
                  " are supported");
    message.check(!find_invalid_utf8(piece.text) && piece.text.find('\0') == std::string::npos,
                  "its text is not UTF-8, or holds a zero byte");
    message.check(std::isfinite(piece.score), "its score is not a finite number");
    return piece;
}

void read_trainer_spec(Message message, SentencePieceModel& model) {
    bool has_bos = true, has_eos = true, has_pad = false;  // the library's defaults
    const auto has = [&] { return static_cast<int32_t>(message.number()) >= 0; };
    model.pad = "<pad>";
    while (message.next()) {
        switch (message.field()) {
            case 3: model.kind = message.choice(SentencePieceModel::Kind::character); break;
            case 24: model.whitespace_is_suffix = message.boolean(); break;
            case 26: model.whitespace_only_pieces = message.boolean(); break;
            case 35: model.byte_fallback = message.boolean(); break;
            case 41: has_bos = has(); break;
            case 42: has_eos = has(); break;
            case 43: has_pad = has(); break;
            case 44: model.unknown_surface = message.bytes(); break;
            case 46: model.bos = message.bytes(); break;
            case 47: model.eos = message.bytes(); break;
            case 48: model.pad = message.bytes(); break;
            default: message.skip();
        }
    }
    if (!has_bos) model.bos.clear();
    if (!has_eos) model.eos.clear();
    if (!has_pad) model.pad.clear();
}

void read_normalizer_spec(Message message, SentencePieceModel& model) {
    while (message.next()) {
        switch (message.field()) {
            case 2: model.charsmap = message.bytes(); break;
            case 3: model.add_dummy_prefix = message.boolean(); break;
            case 4: model.remove_extra_whitespaces = message.boolean(); break;
            case 5: model.escape_whitespaces = message.boolean(); break;
            default: message.skip();
        }
    }
}

void refuse_denormalization(Message message) {
    while (message.next()) {
        message.check(message.field() != 2 || message.bytes().empty(),
                      "the model changes the text it decodes, which is not supported");
        if (message.field() != 2) message.skip();
    }
}

void index_pieces(SentencePieceModel& model, const std::string& name) {
    std::unordered_set<std::string_view> texts;
    std::vector<int> byte_ids(256, -1);
    for (size_t id = 0; id < model.pieces.size(); ++id) {
        const SentencePiece& piece = model.pieces[id];
        KILN_CHECK(texts.insert(piece.text).second, name, ": piece ", id, " (", piece.text.substr(0, 40),
                   ") occurs twice");
        if (piece.type == SentencePiece::Type::unknown) {
            KILN_CHECK(model.unknown_id < 0, name, ": pieces ", model.unknown_id, " and ", id,
                       " both stand for unknown text; only one may");
            model.unknown_id = static_cast<int>(id);
        } else if (piece.type == SentencePiece::Type::byte) {
            const int byte = byte_of_piece(piece.text);
            KILN_CHECK(byte >= 0 && model.byte_fallback, name, ": piece ", id, " (", piece.text.substr(0, 40),
                       ") is a byte, ", byte < 0 ? "but is not written <0x00> to <0xFF>" : "but byte_fallback is off");
            byte_ids[byte] = static_cast<int>(id);
        }
    }
    KILN_CHECK(model.unknown_id >= 0, name, ": none of the ", model.pieces.size(), " pieces stands for unknown text");
    if (!model.byte_fallback) return;
    for (int byte = 0; byte < 256; ++byte) {
        KILN_CHECK(byte_ids[byte] >= 0, name, ": byte_fallback is on, but there is no piece for byte ", byte);
    }
    model.byte_ids = std::move(byte_ids);
}

class Writer {
public:
    void number(uint32_t field, uint64_t value) {
        varint(field << 3 | kVarint);
        varint(value);
    }
    void real(uint32_t field, float value) {
        varint(field << 3 | kFixed32);
        out_.append(reinterpret_cast<const char*>(&value), 4);
    }
    void bytes(uint32_t field, std::string_view value) {
        varint(field << 3 | kBytes);
        varint(value.size());
        out_ += value;
    }
    std::string take() { return std::move(out_); }

private:
    void varint(uint64_t value) {
        for (; value >= 0x80; value >>= 7) out_ += static_cast<char>(value | 0x80);
        out_ += static_cast<char>(value);
    }
    std::string out_;
};

}  // namespace

std::string with_spaces(std::string_view piece) {
    std::string result;
    for (size_t i = 0; i < piece.size(); ++i) {
        const bool symbol = piece.substr(i).starts_with(kSpaceSymbol);
        result += symbol ? ' ' : piece[i];
        if (symbol) i += kSpaceSymbol.size() - 1;
    }
    return result;
}

SentencePieceModel SentencePieceModel::parse(std::string_view file, const std::string& name) {
    SentencePieceModel model;
    Message message(file, 0, file.size(), name, "the model");
    bool trainer_spec = false, normalizer_spec = false;
    while (message.next()) {
        switch (message.field()) {
            case 1: model.pieces.push_back(read_piece(message.message(concat("piece ", model.pieces.size())))); break;
            case 2:
                read_trainer_spec(message.message("trainer_spec"), model);
                trainer_spec = true;
                break;
            case 3:
                read_normalizer_spec(message.message("normalizer_spec"), model);
                normalizer_spec = true;
                break;
            case 5: refuse_denormalization(message.message("denormalizer_spec")); break;
            default: message.skip();
        }
    }
    KILN_CHECK(!model.pieces.empty(), name, ": holds no pieces; this is not a SentencePiece model");
    KILN_CHECK(trainer_spec && normalizer_spec, name, ": holds pieces, but no ",
               trainer_spec ? "normalizer_spec" : "trainer_spec", "; the file is cut short");
    index_pieces(model, name);
    return model;
}

std::string SentencePieceModel::serialize_without_normalization() const {
    SentencePieceModel plain = *this;
    plain.charsmap.clear();
    plain.add_dummy_prefix = plain.remove_extra_whitespaces = plain.escape_whitespaces = false;
    return plain.serialize();
}

std::string SentencePieceModel::serialize() const {
    Writer out;
    for (const SentencePiece& piece : pieces) {
        Writer one;
        one.bytes(1, piece.text);
        one.real(2, piece.score);
        one.number(3, static_cast<uint64_t>(piece.type));
        out.bytes(1, one.take());
    }
    Writer trainer, normalizer;
    trainer.number(3, static_cast<uint64_t>(kind));
    trainer.number(24, whitespace_is_suffix);
    trainer.number(26, whitespace_only_pieces);
    trainer.number(35, byte_fallback);
    out.bytes(2, trainer.take());
    if (!charsmap.empty()) normalizer.bytes(2, charsmap);
    normalizer.number(3, add_dummy_prefix);
    normalizer.number(4, remove_extra_whitespaces);
    normalizer.number(5, escape_whitespaces);
    out.bytes(3, normalizer.take());
    return out.take();
}

}  // namespace kiln
