// The two kinds in Hugging Face's format: byte-level BPE and characters. Both look for added tokens, normalize the
// text, and then run the model.
#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "cpu_reference/interface/error.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe/encoder_pool.h"
#include "tokenizer/huggingface/byte_level.h"
#include "tokenizer/huggingface/parts.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {
namespace {

std::vector<AddedToken> select(const std::vector<AddedToken>& added, bool normalized) {
    std::vector<AddedToken> selected;
    for (const AddedToken& token : added) {
        if (token.normalized == normalized) selected.push_back(token);
    }
    return selected;
}

bool is_ascii(std::string_view text) {
    return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

// The part that both kinds share.
class PartsTokenizer : public TokenizerKind {
public:
    explicit PartsTokenizer(TokenizerParts parts);
    void encode(std::string_view text, const EncodeOptions& options, std::vector<int>& ids,
                std::vector<TextSpan>* spans) const override;
    size_t find_cut(std::string_view text, size_t from, const EncodeOptions& options) const override;
    int vocab_size() const override { return static_cast<int>(parts_.vocabulary.tokens.size()); }
    std::string_view token_bytes(int id) const override { return parts_.vocabulary.tokens[id]; }
    const std::vector<AddedToken>& added_tokens() const override { return parts_.added; }
    const Roles& roles() const override { return parts_.roles; }
    std::vector<File> files() const override { return write_tokenizer_files(parts_); }

protected:
    // Gets the range of `plain` that each id stands for; empty if spans are not wanted.
    using SpanSink = std::function<void(size_t begin, size_t end)>;
    // Appends the ids of normalized text without added tokens. `continues` takes the place of that
    // in `options`.
    virtual void encode_plain(std::string_view plain, bool continues, std::vector<int>& ids, const SpanSink& sink,
                              const EncodeOptions& options) const = 0;

    using MayCut = std::function<bool(size_t at)>;
    // Returns the first place in [from, end) that may_cut allows and where the ids of any text that starts with `plain`
    // are those of its two parts; 0: none. may_cut allows only places that normalization leaves alone.
    virtual size_t find_model_cut(std::string_view plain, size_t from, size_t end, const MayCut& may_cut) const = 0;
    // Whether find_model_cut looks only at the characters beside a place. If not, it gets text without added tokens,
    // and only if there is no normalizer.
    virtual bool cuts_locally() const { return true; }

    const TokenizerParts parts_;

private:
    bool may_cut(std::string_view text, size_t at) const;

    const Normalizer normalizer_;
    AddedTokenFinder in_original_, in_normalized_;  // of the added tokens that are searched for there
};

PartsTokenizer::PartsTokenizer(TokenizerParts parts) : parts_(std::move(parts)), normalizer_(parts_.normalizer) {
    std::vector<AddedToken> normal_forms = parts_.added;
    std::string buffer;
    for (AddedToken& token : normal_forms) token.content = std::string(normalizer_.normalize(token.content, buffer));
    in_original_ = AddedTokenFinder(select(parts_.added, false));
    in_normalized_ = AddedTokenFinder(select(normal_forms, true));
}

void PartsTokenizer::encode(std::string_view text, const EncodeOptions& options, std::vector<int>& ids,
                            std::vector<TextSpan>* spans) const {
    if (parts_.normalizer != NormalizerKind::kNone || parts_.model == TokenizerParts::Model::kCharacters) {
        const auto invalid = find_invalid_utf8(text);
        KILN_CHECK(!invalid, "text that is not UTF-8, first at byte ", invalid.value_or(0), "; this tokenizer",
                   parts_.normalizer == NormalizerKind::kNone
                       ? "'s tokens are characters"
                       : concat("'s normalizer (", normalizer_name(parts_.normalizer), ") takes UTF-8 only"));
    }
    bool continues = options.continues;
    const auto start_in = [](std::string_view whole, std::string_view part) {
        return static_cast<size_t>(part.data() - whole.data());
    };
    // The text between two added tokens: its offset in `text`, the offset of `plain` in its normal form, and the
    // alignment of the two.
    size_t section = 0, plain_start = 0;
    std::string normal_form;
    std::string_view normalized;
    Alignment alignment;
    const auto push_span = [&](size_t begin, size_t end) {  // in the normal form
        const auto [from, to] = alignment.original(begin, end);
        spans->push_back({section + from, section + to});
    };
    SpanSink sink;
    if (spans) sink = [&](size_t begin, size_t end) { push_span(plain_start + begin, plain_start + end); };

    const auto encode_part = [&](std::string_view plain) {
        if (spans) plain_start = start_in(normalized, plain);
        encode_plain(plain, std::exchange(continues, false), ids, sink, options);
    };
    const auto encode_section = [&](std::string_view original) {
        if (spans) section = start_in(text, original);
        normalized = normalizer_.normalize(original, normal_form, spans ? &alignment : nullptr);
        in_normalized_.split(normalized, options, encode_part, [&](int id, std::string_view found) {
            ids.push_back(id);
            continues = false;
            const size_t begin = start_in(normalized, found);
            if (spans) push_span(begin, begin + found.size());
        });
    };
    in_original_.split(text, options, encode_section, [&](int id, std::string_view found) {
        ids.push_back(id);
        continues = false;
        const size_t begin = start_in(text, found);
        if (spans) spans->push_back({begin, begin + found.size()});
    });
}

// Whether normalization and the added tokens allow it.
bool PartsTokenizer::may_cut(std::string_view text, size_t at) const {
    if (!normalizer_.may_cut(text, at) || !in_original_.may_cut(text, at)) return false;
    const size_t longest = in_normalized_.longest();
    if (longest == 0) return true;
    // ASCII text that ASCII follows is its own normal form.
    const size_t begin = at - std::min(at, longest);
    return (parts_.normalizer == NormalizerKind::kNone || is_ascii(text.substr(begin, at - begin + longest + 1))) &&
           in_normalized_.may_cut(text, at);
}

size_t PartsTokenizer::find_cut(std::string_view text, size_t from, const EncodeOptions& options) const {
    // Enough for any character or added token, and the character after it.
    const size_t longest = std::max(in_original_.longest(), in_normalized_.longest()), behind = longest + 4;
    if (text.size() <= from + behind) return 0;
    const size_t end = text.size() - behind;
    if (cuts_locally()) return find_model_cut(text, from, end, [&](size_t at) { return may_cut(text, at); });
    if (parts_.normalizer != NormalizerKind::kNone) return 0;  // the model would have to see all of the normal form
    size_t cut = 0;
    const auto find = [&](std::string_view plain) {
        const size_t offset = static_cast<size_t>(plain.data() - text.data());
        if (cut > 0 || offset >= end || offset + plain.size() <= from) return;
        // What may be the start of an added token is not shown to the model.
        cut = find_model_cut(plain.substr(0, text.size() - longest - offset), std::max(from, offset + 1) - offset,
                             end - offset, [&](size_t at) { return may_cut(text, offset + at); });
        if (cut > 0) cut += offset;
    };
    const auto ignore = [](int, std::string_view) {};
    in_original_.split(
        text, options, [&](std::string_view section) { in_normalized_.split(section, options, find, ignore); }, ignore);
    return cut;
}

class ByteLevelTokenizer final : public PartsTokenizer {
public:
    ByteLevelTokenizer(TokenizerParts parts, const std::string& name)
        : PartsTokenizer(std::move(parts)), model_(parts_.vocabulary, parts_.is_text, name), encoders_(model_) {
        for (int byte = 0; byte < 256; ++byte) lacks_[byte] = !model_.has_byte(static_cast<unsigned char>(byte));
        lacks_any_ = std::ranges::count(lacks_, true) > 0;
        if (lacks_any_ && parts_.byte_fallback) find_fallbacks();
        for (const AddedToken& token : parts_.added) {
            if (!token.special || !parts_.is_text[token.id] || parts_.vocabulary.tokens[token.id].size() == 1) continue;
            merged_specials_.resize(parts_.is_text.size());
            merged_specials_[token.id] = true;
        }
        if (parts_.pre_tokenizer.last.kind() != PreTokenizerKind::kNone) return;
        neighbours_.resize(256 * 256);
        for (size_t id = 0; id < parts_.vocabulary.tokens.size(); ++id) {
            const std::string& token = parts_.vocabulary.tokens[id];
            for (size_t i = 1; i < token.size() && parts_.is_text[id]; ++i) neighbours_[pair_at(token, i)] = true;
        }
    }

private:
    static size_t pair_at(std::string_view text, size_t at) {
        return static_cast<unsigned char>(text[at - 1]) * size_t(256) + static_cast<unsigned char>(text[at]);
    }
    size_t find_model_cut(std::string_view plain, size_t from, size_t end, const MayCut& may_cut) const override {
        const bool normalized = parts_.normalizer != NormalizerKind::kNone;
        if (!neighbours_.empty()) {  // the text is one word: cut it where no token has both bytes
            if (parts_.vocabulary.ignore_merges) return 0;  // a part may be a token
            const auto apart = [&](size_t at) {
                const bool known = !lacks_[static_cast<unsigned char>(plain[at - 1])] &&
                                   !lacks_[static_cast<unsigned char>(plain[at])];
                return known && !neighbours_[pair_at(plain, at)] && may_cut(at) &&
                       (!normalized || is_ascii(plain.substr(at - 1, 3)));  // else a mark may change the byte after it
            };
            return scanners::find_cut(plain, from, std::min(end, plain.size()), apart);
        }
        return parts_.pre_tokenizer.find_cut(plain, from, end, may_cut);
    }
    bool cuts_locally() const override {
        return !neighbours_.empty() || (parts_.pre_tokenizer.before.empty() && parts_.pre_tokenizer.last.is_scanner());
    }
    void encode_plain(std::string_view plain, bool continues, std::vector<int>& ids, const SpanSink& sink,
                      const EncodeOptions& options) const override {
        EncoderPool::Lease lease(encoders_);
        std::string with_space;
        parts_.pre_tokenizer.split(plain, continues, with_space, [&](std::string_view word, size_t start, bool spaced) {
            const auto encode_slowly = [&] {
                encode_symbols(word, start, spaced, lease.encoder(), ids, sink, options);
            };
            if (lacks_any_ && lacks_byte_of(word)) return encode_slowly();
            size_t i = ids.size();
            lease.encoder().encode(word, ids);
            const auto forbidden = [&](int id) { return is_forbidden(id, options); };
            if (!merged_specials_.empty() && std::ranges::any_of(std::span(ids).subspan(i), forbidden)) {
                ids.resize(i);
                return encode_slowly();
            }
            if (!sink) return;
            size_t end = start;
            for (size_t missing = spaced; i < ids.size(); ++i, missing = 0) {  // the added space is not in the text
                const size_t begin = end;
                end += parts_.vocabulary.tokens[ids[i]].size() - missing;
                sink(begin, end);
            }
        });
    }

    bool is_forbidden(int id, const EncodeOptions& options) const {
        return !merged_specials_.empty() && merged_specials_[id] && !options.allows(id);
    }
    bool lacks_byte_of(std::string_view word) const {
        const bool lacks = std::ranges::any_of(word, [&](char c) { return lacks_[static_cast<unsigned char>(c)]; });
        return lacks && !(parts_.vocabulary.ignore_merges && model_.trie().find(word) >= 0);
    }

    // A word with bytes that have no token, or with the text of a special token. As in `tokenizers`, a byte without a
    // token becomes its fallback tokens or the unk token, which merge like all others. Without those it is left out,
    // and the bytes beside it may merge. An unk token is written when another unk token or a byte with a token follows.
    void encode_symbols(std::string_view word, size_t start, bool spaced, const BpeEncoder& encoder,
                        std::vector<int>& ids, const SpanSink& sink, const EncodeOptions& options) const {
        std::vector<int> symbols;
        std::vector<TextSpan> spans;  // of the symbols in `word`
        std::optional<TextSpan> unknown;
        const auto add = [&](int id, TextSpan span) {
            symbols.push_back(id);
            spans.push_back(span);
        };
        const auto flush_unknown = [&] {
            if (unknown) add(parts_.unknown, *unknown);
            unknown.reset();
        };
        for (size_t i = 0; i < word.size(); ++i) {
            const auto byte = static_cast<unsigned char>(word[i]);
            if (!lacks_[byte]) {
                flush_unknown();
                add(model_.byte_id(byte), {i, i + 1});
            } else if (!fallbacks_[byte].empty()) {
                for (const int id : fallbacks_[byte]) add(id, {i, i + 1});
            } else if (!parts_.unk_token.empty()) {
                KILN_CHECK(parts_.unknown >= 0, "the vocabulary has no token for byte ", int(byte),
                           ", which the text holds, and its unk_token \"", parts_.unk_token, "\" is not in it either");
                if (parts_.fuse_unknown && unknown) {
                    unknown->end = i + 1;
                } else {
                    flush_unknown();
                    unknown = {i, i + 1};
                }
                if (options.counts) ++options.counts->unknown;
            } else if (options.counts) {
                ++options.counts->left_out;
            }
        }
        flush_unknown();
        const auto place = [&](size_t at) { return start + at - std::min<size_t>(at, spaced); };
        merge_symbols(symbols, 1, encoder, options, [&](int id, std::span<const int> part) {
            ids.push_back(id);
            const TextSpan* const first = spans.data() + (part.data() - symbols.data());
            if (sink) sink(place(first->begin), place(first[part.size() - 1].end));
        });
    }

    // Calls found(int id, std::span<const int> symbols) for each token. A merge may have a special token as its result.
    // In text, that token stays two unless it is allowed.
    template <class Found>
    void merge_symbols(std::span<const int> symbols, size_t at_least, const BpeEncoder& encoder,
                       const EncodeOptions& options, const Found& found) const {
        std::vector<int> merged;
        std::vector<size_t> ends;
        encoder.merge(symbols, at_least, merged, &ends);
        for (size_t i = 0, begin = 0; i < merged.size(); begin = ends[i++]) {
            const auto part = symbols.subspan(begin, ends[i] - begin);
            if (part.size() > 1 && is_forbidden(merged[i], options)) {
                merge_symbols(part, 2, encoder, options, found);
            } else {
                found(merged[i], part);
            }
        }
    }

    // The fallback of a byte is made of the bytes of its spelling.
    void find_fallbacks() {
        std::array<int, 256> tokens;
        tokens.fill(-1);
        for (size_t id = 0; id < parts_.vocabulary.tokens.size(); ++id) {
            const std::string& text = parts_.vocabulary.tokens[id];
            if (text.size() != 6 || !text.starts_with("<0x")) continue;
            const auto outside = [&](const AddedToken& t) { return t.id == static_cast<int>(id) && !t.in_vocabulary; };
            if (std::ranges::any_of(parts_.added, outside)) continue;
            for (int byte = 0; byte < 256; ++byte) {
                if (text == fallback_name(byte)) tokens[byte] = static_cast<int>(id);
            }
        }
        const ByteLevel byte_level;
        for (int byte = 0; byte < 256; ++byte) {
            const char one = static_cast<char>(byte);
            for (const char c : lacks_[byte] ? byte_level.spell({&one, 1}) : "") {
                fallbacks_[byte].push_back(tokens[static_cast<unsigned char>(c)]);
            }
            if (std::ranges::count(fallbacks_[byte], -1) > 0) fallbacks_[byte].clear();
        }
    }
    static std::string fallback_name(int byte) {
        constexpr const char* kHex = "0123456789ABCDEF";
        return {'<', '0', 'x', kHex[byte / 16], kHex[byte % 16], '>'};
    }

    const BpeModel model_;
    mutable EncoderPool encoders_;
    std::array<bool, 256> lacks_ = {};  // bytes without a token
    bool lacks_any_ = false;
    std::array<std::vector<int>, 256> fallbacks_;  // of these bytes; empty: none
    std::vector<bool> merged_specials_;            // by id: special tokens that merges make; empty: none
    std::vector<bool> neighbours_;  // whether a token has these two bytes side by side; only without a pre-tokenizer
};

class CharacterTokenizer final : public PartsTokenizer {
public:
    CharacterTokenizer(TokenizerParts parts, const std::string& name) : PartsTokenizer(std::move(parts)) {
        for (size_t id = 0; id < parts_.vocabulary.tokens.size(); ++id) {
            if (!parts_.is_text[id]) continue;
            const std::string& token = parts_.vocabulary.tokens[id];
            uint32_t character;
            const int length = decode_utf8(token.data(), token.data() + token.size(), character);
            KILN_CHECK(length > 0 && static_cast<size_t>(length) == token.size(), name, ": token ", id, " \"", token,
                       "\" is not one character; word-level models are supported only with tokens of one character");
            if (character >= ids_.size()) ids_.resize(character + 1, -1);
            ids_[character] = static_cast<int>(id);
        }
    }

private:
    void encode_plain(std::string_view plain, bool, std::vector<int>& ids, const SpanSink& sink,
                      const EncodeOptions& options) const override {
        const char* const end = plain.data() + plain.size();
        for (const char* p = plain.data(); p < end;) {
            uint32_t character = 0;
            const int length = decode_utf8(p, end, character);
            int id = character < ids_.size() ? ids_[character] : -1;
            if (id < 0) {
                id = parts_.unknown;
                if (options.counts) ++options.counts->unknown;
            }
            KILN_CHECK(id >= 0, "the text holds \"", std::string_view(p, static_cast<size_t>(length)),
                       "\" (code point ", character, ", byte ", p - plain.data(),
                       " of the text), which is not in the vocabulary, and there is no <unk> token; train the "
                       "tokenizer on text with this character, or add <unk> to --special-tokens");
            ids.push_back(id);
            if (sink) sink(static_cast<size_t>(p - plain.data()), static_cast<size_t>(p - plain.data() + length));
            p += length;
        }
    }

    size_t find_model_cut(std::string_view plain, size_t from, size_t end, const MayCut& may_cut) const override {
        return scanners::find_cut(plain, from, std::min(end, plain.size()), may_cut);
    }

    std::vector<int> ids_;  // by code point, up to the largest; -1: not in the vocabulary
};

}  // namespace

Tokenizer make_tokenizer(TokenizerParts parts, const std::string& name) {
    if (parts.model == TokenizerParts::Model::kCharacters) {
        return Tokenizer(std::make_unique<const CharacterTokenizer>(std::move(parts), name));
    }
    return Tokenizer(std::make_unique<const ByteLevelTokenizer>(std::move(parts), name));
}

}  // namespace kiln
