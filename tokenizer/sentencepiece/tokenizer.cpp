#include "tokenizer/sentencepiece/tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <memory>
#include <sstream>
#include <unordered_set>
#include <utility>

#include "cpu_reference/interface/error.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe/encoder_pool.h"
#include "tokenizer/sentencepiece/character_bpe.h"
#include "tokenizer/sentencepiece/json.h"
#include "tokenizer/sentencepiece/model.h"
#include "tokenizer/sentencepiece/normalizer.h"
#include "tokenizer/tokenizer_impl.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {
namespace {

// In a long text, the library's unigram models would add so many scores in float32 that rounding errors decide between
// pieces. So a long text is encoded in parts that no piece crosses, and only long texts are cut. Shorter ones are
// encoded at once, with the library's own rounding.
constexpr size_t kLongUnigram = size_t(64) << 10;

// Encodes normalized text, with the end of each token in the text. `is_long`: it belongs to a text of at least
// kLongUnigram bytes.
class Encoder {
public:
    virtual ~Encoder() = default;
    virtual void encode(std::string_view text, bool is_long, std::vector<int>& ids,
                        std::vector<size_t>* ends) const = 0;
    // Whether the ids of any normalized text with these two characters side by side are those of its two parts.
    virtual bool may_cut(uint32_t left, uint32_t right) const = 0;
    virtual bool may_cut() const { return true; }  // any text
};

class OwnEncoder final : public Encoder {
public:
    OwnEncoder(const SentencePieceModel& model, const std::string& name)
        : bpe_(CharacterBpe::of_sentencepiece(model, name)), encoders_(bpe_.model()) {}
    void encode(std::string_view text, bool, std::vector<int>& ids, std::vector<size_t>* ends) const override {
        EncoderPool::Lease lease(encoders_);
        bpe_.encode(text, lease.encoder(), ids, ends);
    }
    bool may_cut(uint32_t left, uint32_t right) const override { return bpe_.may_cut(left, right); }

private:
    const CharacterBpe bpe_;
    mutable EncoderPool encoders_;
};

class LibraryEncoder final : public Encoder {
public:
    LibraryEncoder(const SentencePieceModel& model, const std::string& name)
        : kind_(model.kind), escape_whitespaces_(model.escape_whitespaces) {
        const auto status = library_.LoadFromSerializedProto(model.serialize_without_normalization());
        KILN_CHECK(status.ok(), name, ": the SentencePiece library refuses it: ", status.ToString());
        for (const SentencePiece& piece : model.pieces) {
            using Type = SentencePiece::Type;
            if (piece.type != Type::normal && piece.type != Type::user_defined) continue;
            const std::string text = escape_whitespaces_ ? with_spaces(piece.text) : piece.text;
            uint32_t before = 0, first = 0;
            for (size_t i = 0, bytes; i < text.size(); i += bytes, before = first) {
                bytes = next(text, i, first);
                if (i > 0) neighbours_.insert(uint64_t(before) << 32 | first);
                if (bytes == text.size()) pieces_.insert(first);
            }
        }
    }
    void encode(std::string_view text, bool is_long, std::vector<int>& ids, std::vector<size_t>* ends) const override {
        const bool apart = is_long && kind_ == SentencePieceModel::Kind::unigram;
        size_t start = 0;
        uint32_t before = 0, after = 0;
        for (size_t i = 0, bytes; apart && i < text.size(); i += bytes, before = after) {
            bytes = next(text, i, after);
            if (i == 0 || !may_cut(before, after)) continue;
            encode_part(text, start, i, ids, ends);
            start = i;
        }
        encode_part(text, start, text.size(), ids, ends);
    }
    // Not between two unknown characters, since the library joins them to one token.
    bool may_cut(uint32_t left, uint32_t right) const override {
        // Faster than the table: two such characters are neighbours in most models, so no cut is tried there.
        if (left < 128 && right < 128 && left != ' ' && right != ' ') return false;
        return !neighbours_.contains(uint64_t(left) << 32 | right) &&
               (pieces_.contains(left) || pieces_.contains(right));
    }
    // A word model joins unknown words.
    bool may_cut() const override { return kind_ != SentencePieceModel::Kind::word; }

private:
    // The length of the character at byte `i` of valid UTF-8.
    static size_t next(std::string_view text, size_t i, uint32_t& code_point) {
        return static_cast<size_t>(decode_utf8(text.data() + i, text.data() + text.size(), code_point));
    }
    void encode_part(std::string_view text, size_t start, size_t stop, std::vector<int>& ids,
                     std::vector<size_t>* ends) const {
        std::string escaped;
        std::vector<size_t> end_of;  // by byte of `escaped`: the end of its origin in `text`
        for (size_t i = start; i < stop; ++i) {
            escaped += escape_whitespaces_ && text[i] == ' ' ? kSpaceSymbol : text.substr(i, 1);
            if (ends) end_of.resize(escaped.size(), i + 1);
        }
        if (!ends) {
            std::vector<int> found;
            check(library_.Encode(escaped, &found));
            ids.insert(ids.end(), found.begin(), found.end());
            return;
        }
        sentencepiece::ImmutableSentencePieceText found;
        check(library_.Encode(escaped, found.mutable_proto()));
        size_t end = 0;
        for (const auto& piece : found.pieces()) {
            ids.push_back(static_cast<int>(piece.id()));
            // If a character becomes several byte pieces, only the last one has a length.
            end = piece.begin() == piece.end() ? end + 1 : piece.end();
            ends->push_back(end_of.at(end - 1));
        }
    }
    static void check(const sentencepiece::util::Status& status) {
        KILN_CHECK(status.ok(), "the SentencePiece library cannot encode the text: ", status.ToString());
    }

    const SentencePieceModel::Kind kind_;
    const bool escape_whitespaces_;
    std::unordered_set<uint64_t> neighbours_;  // two characters side by side in a piece
    std::unordered_set<uint32_t> pieces_;      // characters that are pieces
    sentencepiece::SentencePieceProcessor library_;
};

class SentencePieceTokenizer final : public TokenizerKind {
public:
    SentencePieceTokenizer(std::string file, const std::string& name, SideFiles side)
        : file_(std::move(file)),
          model_(SentencePieceModel::parse(file_, name)),
          normalizer_(model_, name),
          side_(std::move(side)) {
        if (model_.kind == SentencePieceModel::Kind::bpe) {
            encoder_ = std::make_unique<const OwnEncoder>(model_, name);
        } else {
            encoder_ = std::make_unique<const LibraryEncoder>(model_, name);
        }
        for (size_t i = 0; i < model_.pieces.size(); ++i) {
            const SentencePiece& piece = model_.pieces[i];
            const int id = static_cast<int>(i);
            tokens_.push_back(bytes_of(piece));
            if (piece.type == SentencePiece::Type::control || piece.type == SentencePiece::Type::unknown) {
                added_.push_back({.id = id, .content = piece.text, .special = true});
            }
        }
        for (size_t byte = 0; byte < model_.byte_ids.size(); ++byte) {
            tokens_[model_.byte_ids[byte]] = static_cast<char>(byte);
        }
        add_side_tokens();
        finder_ = AddedTokenFinder(added_);
    }

    void encode(std::string_view text, const EncodeOptions& options, std::vector<int>& ids,
                std::vector<TextSpan>* spans) const override {
        std::string normal;
        std::vector<TextSpan> origins;
        std::vector<size_t> ends;
        bool continues = options.continues;
        const bool is_long = options.continues || options.continued || text.size() >= kLongUnigram;
        const auto offset_of = [&](std::string_view part) { return static_cast<size_t>(part.data() - text.data()); };
        const auto encode_plain = [&](std::string_view plain) {
            const bool at_end = plain.end() == text.end();
            normalizer_.normalize(
                plain, {.continues = std::exchange(continues, true), .continued = at_end && options.continued}, normal,
                spans ? &origins : nullptr);
            ends.clear();
            encoder_->encode(normal, is_long, ids, spans ? &ends : nullptr);
            const size_t offset = offset_of(plain);
            size_t begin = 0;
            for (const size_t end : ends) {
                // Every byte piece has the whole character as its span, even if the text has fewer bytes.
                if (end > begin || begin == 0) {
                    spans->push_back({offset + origins[begin].begin, offset + origins[end - 1].end});
                } else {
                    spans->push_back(spans->back());
                }
                begin = end;
            }
        };
        finder_.split(text, options, encode_plain, [&](int id, std::string_view found) {
            ids.push_back(id);
            if (spans) spans->push_back({offset_of(found), offset_of(found) + found.size()});
        });
    }
    size_t find_cut(std::string_view text, size_t from, const EncodeOptions& options) const override {
        if (!encoder_->may_cut()) return 0;
        if (model_.kind == SentencePieceModel::Kind::unigram) from = std::max(from, kLongUnigram);
        size_t cut = 0;
        const size_t longest = finder_.longest();
        const auto find = [&](std::string_view plain) {
            const size_t offset = static_cast<size_t>(plain.data() - text.data());
            if (cut > 0 || offset + longest >= text.size() || offset + plain.size() <= from) return;
            // What may be the start of an added token is not shown to the normalizer.
            plain = plain.substr(0, text.size() - longest - offset);
            cut = normalizer_.find_cut(plain, std::max(from, offset) - offset,
                                       [&](size_t at, uint32_t left, uint32_t right) {
                                           return encoder_->may_cut(left, right) && finder_.may_cut(text, offset + at);
                                       });
            if (cut > 0) cut += offset;
        };
        finder_.split(text, options, find, [](int, std::string_view) {});
        return cut;
    }
    int vocab_size() const override { return static_cast<int>(tokens_.size()); }
    std::string_view token_bytes(int id) const override { return tokens_[id]; }
    const std::vector<AddedToken>& added_tokens() const override { return added_; }
    const Roles& roles() const override { return roles_; }
    // As in the library: after a piece of only spaces, the next piece still counts as the first one if extra spaces are
    // removed.
    std::string_view bytes_at_start(int id, bool& at_start) const override {
        using Type = SentencePiece::Type;
        std::string_view bytes = tokens_[id];
        const Type type = static_cast<size_t>(id) < model_.pieces.size() ? model_.pieces[id].type : Type::control;
        if (type == Type::control) return bytes;  // not part of the text
        const bool drop = (model_.add_dummy_prefix || model_.remove_extra_whitespaces) && bytes.starts_with(' ') &&
                          type != Type::unknown && type != Type::byte;
        if (drop) bytes.remove_prefix(1);
        at_start = bytes.empty() && model_.remove_extra_whitespaces;
        return bytes;
    }
    // tokenizer.vocab is for people: each line is a piece and its score. transformers loads tokenizer.json, and learns
    // the roles from the others.
    std::vector<File> files() const override {
        std::ostringstream vocab;
        vocab.exceptions(std::ios::badbit);
        for (const SentencePiece& piece : model_.pieces) vocab << piece.text << '\t' << piece.score << '\n';
        std::vector<File> files = {{"tokenizer.model", file_}, {"tokenizer.vocab", vocab.str()}};
        const std::optional<std::string> json = sentencepiece_json(model_, added_);
        if (json) files.push_back({"tokenizer.json", *json});
        // Without a tokenizer.json, this class of transformers 5 builds the tokenizer from the model.
        const nlohmann::ordered_json config = {
            {"tokenizer_class", json ? "PreTrainedTokenizerFast" : "TokenizersBackend"}};
        std::vector<std::string> names = tokens_;  // what unk means in a text is not its name
        for (size_t i = 0; i < model_.pieces.size(); ++i) names[i] = model_.pieces[i].text;
        for (File& file : write_side_files(side_, config, roles_, added_, names)) files.push_back(std::move(file));
        return files;
    }

private:
    std::string bytes_of(const SentencePiece& piece) const {
        if (piece.type == SentencePiece::Type::unknown) return model_.unknown_surface;
        if (piece.type == SentencePiece::Type::control) return piece.text;
        return with_spaces(piece.text);
    }

    // A token of the side files is a piece, or gets the next id.
    void add_side_tokens() {
        const SideSettings settings = read_side_files(side_, added_);
        const auto id_of = [&](const std::string& content) {
            const auto found =
                std::find_if(added_.begin(), added_.end(), [&](auto& t) { return t.content == content; });
            if (found != added_.end()) return found->id;
            const auto piece = std::find_if(model_.pieces.begin(), model_.pieces.end(),
                                            [&](const SentencePiece& p) { return p.text == content; });
            return piece == model_.pieces.end() ? -1 : static_cast<int>(piece - model_.pieces.begin());
        };
        for (AddedToken token : settings.added) {
            token.id = id_of(token.content);
            token.in_vocabulary = token.id >= 0 && static_cast<size_t>(token.id) < model_.pieces.size();
            if (token.id < 0) {
                token.id = static_cast<int>(tokens_.size());
                tokens_.push_back(token.content);
            }
            std::erase_if(added_, [&](const AddedToken& old) { return old.id == token.id; });
            added_.push_back(token);
        }
        std::ranges::sort(added_, {}, &AddedToken::id);
        roles_ = settings.roles(id_of, vocab_size());
        const auto name = [&](Role role, const std::string& piece) {
            if (const int id = id_of(piece); !roles_[role] && id >= 0) roles_[role] = {id, "tokenizer.model"};
        };
        name(Role::bos, model_.bos);
        name(Role::eos, model_.eos);
        name(Role::pad, model_.pad);
        name(Role::unk, model_.pieces[model_.unknown_id].text);
    }

    const std::string file_;
    const SentencePieceModel model_;
    const SentencePieceNormalizer normalizer_;
    const SideFiles side_;
    std::unique_ptr<const Encoder> encoder_;
    std::vector<std::string> tokens_;  // by id: the decoded bytes
    std::vector<AddedToken> added_;
    Roles roles_;
    AddedTokenFinder finder_;
};

}  // namespace

Tokenizer make_sentencepiece_tokenizer(std::string file, const std::string& name, SideFiles side) {
    return Tokenizer(std::make_unique<const SentencePieceTokenizer>(std::move(file), name, std::move(side)));
}

}  // namespace kiln
