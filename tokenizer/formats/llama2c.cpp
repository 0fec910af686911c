#include "tokenizer/formats/llama2c.h"

#include <algorithm>
#include <cfloat>
#include <cstdint>
#include <cstring>

#include "cpu_reference/interface/error.h"
#include "tokenizer/huggingface/parts.h"
#include "tokenizer/sentencepiece/model.h"
#include "tokenizer/sentencepiece/tokenizer.h"

namespace kiln {
namespace {

constexpr float kNeverMerged = -FLT_MAX;  // special tokens, and ids without a token
constexpr std::string_view kUnknown = "<unk>";

// The texts that begin and end a text stand on lines of their own when run.c prints them.
std::string on_a_line(const std::string& piece) {
    return "\n" + piece + "\n";
}

std::string with_symbols(std::string_view text) {
    std::string piece;
    for (const char c : text) piece += c == ' ' ? std::string(kSpaceSymbol) : std::string(1, c);
    return piece;
}

template <class T>
void append(std::string& file, T value) {
    file.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// A vocabulary that begins with <unk>, <s> and </s>, and perhaps all bytes.
Tokenizer sentencepiece(std::vector<SentencePiece> pieces, const std::string& name) {
    SentencePieceModel model;
    model.kind = SentencePieceModel::Kind::bpe;
    model.remove_extra_whitespaces = false;
    KILN_CHECK(pieces.size() > 3 && pieces[1].text == on_a_line(model.bos) && pieces[2].text == on_a_line(model.eos),
               name, ": begins with <unk>, but not with <s> and </s> after it; get it again");
    for (SentencePiece& piece : pieces) piece.text = with_symbols(piece.text);
    model.pieces = std::move(pieces);
    using Type = SentencePiece::Type;
    model.pieces[0].type = Type::unknown;
    model.pieces[1] = {model.bos, model.pieces[1].score, Type::control};
    model.pieces[2] = {model.eos, model.pieces[2].score, Type::control};
    constexpr char kDigits[] = "0123456789ABCDEF";
    const auto is_byte = [&](size_t byte) {
        const std::string text = {'<', '0', 'x', kDigits[byte / 16], kDigits[byte % 16], '>'};
        return byte + 3 < model.pieces.size() && model.pieces[byte + 3].text == text;
    };
    model.byte_fallback = true;
    for (size_t byte = 0; byte < 256; byte++) model.byte_fallback = model.byte_fallback && is_byte(byte);
    for (size_t byte = 0; byte < 256 && model.byte_fallback; byte++) model.pieces[byte + 3].type = Type::byte;
    return make_sentencepiece_tokenizer(model.serialize(), name);
}

// What write_llama2c_tokenizer makes of byte-level BPE: the order of the ids gives the merges back.
Tokenizer byte_level(const std::vector<SentencePiece>& pieces, const std::string& name) {
    std::vector<RankedToken> ranked;
    std::vector<SpecialToken> special;
    for (size_t id = 0; id < pieces.size(); id++) {
        if (pieces[id].score == kNeverMerged) {
            special.push_back({pieces[id].text, int(id)});
        } else {
            ranked.push_back({pieces[id].text, int(id)});
        }
    }
    return make_tokenizer(parts_of_ranks(ranked, name, {.last = PreTokenizer(PreTokenizerKind::kGpt2)}, special), name);
}

}  // namespace

Tokenizer parse_llama2c_tokenizer(std::string_view file, const std::string& name) {
    size_t at = 0;
    const auto take = [&](size_t bytes) {
        KILN_CHECK(bytes <= file.size() - at, name, ": byte ", at, ": is cut short; get it again");
        at += bytes;
        return file.substr(at - bytes, bytes);
    };
    const auto number = [&]<class T>(T value) {
        std::memcpy(&value, take(sizeof value).data(), sizeof value);
        return value;
    };
    std::vector<SentencePiece> pieces;
    number(int32_t());  // the longest piece
    while (at < file.size()) {
        SentencePiece piece;
        piece.score = number(float());
        const auto bytes = number(int32_t());
        KILN_CHECK(bytes > 0, name, ": byte ", at, ": piece ", pieces.size(), " has ", bytes, " bytes; get it again");
        piece.text = take(size_t(bytes));
        pieces.push_back(std::move(piece));
    }
    KILN_CHECK(!pieces.empty(), name, ": holds no pieces; get it again");
    return pieces[0].text == kUnknown ? sentencepiece(std::move(pieces), name) : byte_level(pieces, name);
}

std::string write_llama2c_tokenizer(const Tokenizer& tokenizer, int V) {
    const std::vector<TokenizerKind::File> files = tokenizer.kind().files();
    SentencePieceModel model;
    if (files.front().name == "tokenizer.model")
        model = SentencePieceModel::parse(files.front().content, "tokenizer.model");
    std::string pieces;
    uint32_t longest = 0;
    for (int id = 0; id < V; id++) {
        std::string text = concat("<unused", id, ">");
        float score = kNeverMerged;
        if (size_t(id) < model.pieces.size()) {
            const SentencePiece& piece = model.pieces[size_t(id)];
            const bool control = piece.text == model.bos || piece.text == model.eos;
            text = control ? on_a_line(piece.text) : with_spaces(piece.text);
            score = piece.score;
        } else if (id < tokenizer.vocab_size() && !tokenizer.token_bytes(id).empty()) {
            text = tokenizer.token_bytes(id);
            if (!tokenizer.is_special(id)) score = float(-id);
        }
        append(pieces, score);
        append(pieces, int32_t(text.size()));
        pieces += text;
        longest = std::max(longest, uint32_t(text.size()));
    }
    std::string file;
    append(file, longest);
    return file + pieces;
}

}  // namespace kiln
