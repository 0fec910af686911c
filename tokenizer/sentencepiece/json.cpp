#include "tokenizer/sentencepiece/json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string_view>
#include <unordered_map>

#include "tokenizer/huggingface/side_files.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {
namespace {

using Json = nlohmann::ordered_json;
using Kind = SentencePieceModel::Kind;
using Type = SentencePiece::Type;

std::string base64(std::string_view bytes) {
    constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    for (size_t i = 0; i < bytes.size(); i += 3) {
        uint32_t group = 0;
        for (size_t j = 0; j < 3; j++) group = group << 8 | (i + j < bytes.size() ? uint8_t(bytes[i + j]) : 0);
        for (size_t j = 0; j < 4; j++) text += i + j > bytes.size() ? '=' : kDigits[group >> (18 - 6 * j) & 63];
    }
    return text;
}

Json replace(const char* kind, const char* pattern, std::string_view content) {
    return {{"type", "Replace"}, {"pattern", {{kind, pattern}}}, {"content", content}};
}

Json normalizer_of(const SentencePieceModel& model) {
    Json steps = Json::array();
    if (!model.charsmap.empty()) {
        steps.push_back({{"type", "Precompiled"}, {"precompiled_charsmap", base64(model.charsmap)}});
    }
    if (model.remove_extra_whitespaces) {
        steps.push_back({{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}});
        steps.push_back(replace("Regex", " {2,}", " "));
    }
    if (model.add_dummy_prefix) steps.push_back({{"type", "Prepend"}, {"prepend", " "}});
    if (model.escape_whitespaces) steps.push_back(replace("String", " ", kSpaceSymbol));
    return {{"type", "Sequence"}, {"normalizers", std::move(steps)}};
}

Json decoder_of(const SentencePieceModel& model) {
    Json steps = {replace("String", "▁", " ")};
    if (model.byte_fallback) steps.push_back({{"type", "ByteFallback"}});
    steps.push_back({{"type", "Fuse"}});
    if (model.add_dummy_prefix) steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    return {{"type", "Sequence"}, {"decoders", std::move(steps)}};
}

// SentencePiece merges two neighbours if together they are a piece, the piece with the highest score first.
Json merges_of(const SentencePieceModel& model) {
    std::vector<const SentencePiece*> by_score;
    std::unordered_map<std::string_view, const SentencePiece*> pieces;
    for (const SentencePiece& piece : model.pieces) {
        if (piece.type == Type::normal) by_score.push_back(&piece), pieces.emplace(piece.text, &piece);
    }
    std::ranges::stable_sort(by_score, std::greater{}, &SentencePiece::score);
    Json merges = Json::array();
    for (const SentencePiece* piece : by_score) {
        const std::string_view text = piece->text;
        uint32_t code_point = 0;
        for (size_t i = 0; i < text.size();) {
            i += size_t(decode_utf8(text.data() + i, text.data() + text.size(), code_point));
            const auto left = text.substr(0, i), right = text.substr(i);
            if (pieces.contains(left) && pieces.contains(right)) merges.push_back({left, right});
        }
    }
    return merges;
}

Json model_of(const SentencePieceModel& model) {
    Json vocab = model.kind == Kind::unigram ? Json::array() : Json::object();
    for (size_t id = 0; id < model.pieces.size(); id++) {
        const SentencePiece& piece = model.pieces[id];
        if (model.kind == Kind::unigram) {
            vocab.push_back({piece.text, piece.score});
        } else {
            vocab.get_ref<Json::object_t&>().Json::object_t::Container::emplace_back(piece.text, id);
        }
    }
    if (model.kind == Kind::unigram) {
        return {{"type", "Unigram"},
                {"unk_id", model.unknown_id},
                {"vocab", std::move(vocab)},
                {"byte_fallback", model.byte_fallback}};
    }
    return {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", model.pieces[size_t(model.unknown_id)].text},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", true},
            {"byte_fallback", model.byte_fallback},
            {"ignore_merges", false},
            {"vocab", std::move(vocab)},
            {"merges", model.kind == Kind::bpe ? merges_of(model) : Json::array()}};
}

}  // namespace

std::optional<std::string> sentencepiece_json(const SentencePieceModel& model, const std::vector<AddedToken>& added) {
    if (model.kind == Kind::word || model.whitespace_is_suffix) return std::nullopt;
    Json tokens = Json::array();
    const auto add = [&](const AddedToken& token) {
        Json entry = {{"id", token.id}};
        entry.update(added_token_json(token));
        tokens.push_back(std::move(entry));
    };
    std::ranges::for_each(added, add);
    for (size_t id = 0; id < model.pieces.size(); id++) {
        const bool is_added = std::ranges::count(added, int(id), &AddedToken::id) > 0;
        if (model.pieces[id].type == Type::user_defined && !is_added) {
            add({.id = int(id), .content = model.pieces[id].text});
        }
    }
    const Json json = {{"version", "1.0"},
                       {"truncation", nullptr},
                       {"padding", nullptr},
                       {"added_tokens", std::move(tokens)},
                       {"normalizer", normalizer_of(model)},
                       {"pre_tokenizer", nullptr},
                       {"post_processor", nullptr},
                       {"decoder", decoder_of(model)},
                       {"model", model_of(model)}};
    return json.dump(2, ' ', /*ensure_ascii=*/false);
}

}  // namespace kiln
