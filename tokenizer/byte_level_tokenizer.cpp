// Byte-level BPE as a kind of tokenizer: added tokens, normaliser, splitter, encoder.
#include <algorithm>
#include <mutex>
#include <utility>

#include "cpu_reference/error.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/tokenizer_parts.h"
#include "tokenizer/utf8.h"

namespace kiln {
namespace {

// Encoders with their caches, kept from call to call; as many as there were ever calls at once.
class EncoderPool {
public:
    explicit EncoderPool(const BpeModel& model) : model_(model) {}

    class Lease {
    public:
        explicit Lease(EncoderPool& pool) : pool_(pool), encoder_(pool.take()) {}
        Lease(const Lease&) = delete;
        ~Lease() { pool_.put_back(std::move(encoder_)); }
        BpeEncoder& encoder() { return *encoder_; }

    private:
        EncoderPool& pool_;
        std::unique_ptr<BpeEncoder> encoder_;
    };

private:
    std::unique_ptr<BpeEncoder> take() {
        const std::lock_guard lock(mutex_);
        if (idle_.empty()) {
            idle_.reserve(++made_);  // so that putting one back allocates nothing and cannot throw
            return std::make_unique<BpeEncoder>(model_);
        }
        auto encoder = std::move(idle_.back());
        idle_.pop_back();
        return encoder;
    }
    void put_back(std::unique_ptr<BpeEncoder> encoder) noexcept {
        const std::lock_guard lock(mutex_);
        idle_.push_back(std::move(encoder));
    }

    const BpeModel& model_;
    std::mutex mutex_;
    std::vector<std::unique_ptr<BpeEncoder>> idle_;
    size_t made_ = 0;
};

std::vector<AddedToken> select(const std::vector<AddedToken>& added, bool normalized) {
    std::vector<AddedToken> selected;
    for (const AddedToken& token : added) {
        if (token.normalized == normalized) selected.push_back(token);
    }
    return selected;
}

class ByteLevelTokenizer final : public TokenizerKind {
public:
    ByteLevelTokenizer(TokenizerParts parts, const std::string& name);
    void encode(std::string_view text, const EncodeOptions& options, std::vector<int>& ids,
                std::vector<TextSpan>* spans) const override;
    int vocab_size() const override { return static_cast<int>(parts_.vocabulary.tokens.size()); }
    std::string_view token_bytes(int id) const override { return parts_.vocabulary.tokens[id]; }
    const std::vector<AddedToken>& added_tokens() const override { return parts_.added; }
    std::vector<File> files() const override {
        return {{"tokenizer.json", write_tokenizer_json(parts_)},
                {"vocab.json", write_vocab_json(parts_)},
                {"merges.txt", write_merges_text(parts_)},
                {"special_tokens_map.json", write_special_tokens_map(parts_)},
                {"tokenizer_config.json", write_tokenizer_config(parts_)}};
    }

private:
    const TokenizerParts parts_;
    const BpeModel model_;
    const Normalizer normalizer_;
    AddedTokenFinder in_original_, in_normalized_;  // of the added tokens to look for there
    mutable EncoderPool encoders_;
};

ByteLevelTokenizer::ByteLevelTokenizer(TokenizerParts parts, const std::string& name)
    : parts_(std::move(parts)),
      model_(parts_.vocabulary, parts_.is_text, name),
      normalizer_(parts_.normalizer),
      encoders_(model_) {
    std::vector<AddedToken> normal_forms = parts_.added;
    std::string buffer;
    for (AddedToken& token : normal_forms) token.content = std::string(normalizer_.normalize(token.content, buffer));
    in_original_ = AddedTokenFinder(select(parts_.added, false));
    in_normalized_ = AddedTokenFinder(select(normal_forms, true));
}

void ByteLevelTokenizer::encode(std::string_view text, const EncodeOptions& options, std::vector<int>& ids,
                                std::vector<TextSpan>* spans) const {
    if (parts_.normalizer != NormalizerKind::kNone) {
        const auto invalid = find_invalid_utf8(text);
        KILN_CHECK(!invalid, "text that is not UTF-8, first at byte ", invalid.value_or(0),
                   "; this tokenizer's normalizer (", normalizer_name(parts_.normalizer), ") takes UTF-8 only");
    }
    EncoderPool::Lease lease(encoders_);
    ids.reserve(ids.size() + text.size() / 3);
    std::string normal_form, with_space;
    bool continues = options.continues;
    // Where the stretch that is being encoded lies in `text`, and how its normal form came about.
    size_t stretch = 0;
    std::string_view normalized;
    Alignment alignment;
    const auto push_span = [&](size_t begin, size_t end) {  // of the normal form's bytes
        const auto [from, to] = alignment.original(begin, end);
        spans->push_back({stretch + from, stretch + to});
    };
    const auto start_in = [](std::string_view whole, std::string_view part) {
        return static_cast<size_t>(part.data() - whole.data());
    };
    const auto encode_plain = [&](std::string_view plain) {
        const size_t plain_start = spans ? start_in(normalized, plain) : 0;
        const auto encode_piece = [&](std::string_view piece, size_t start, bool spaced) {
            size_t i = ids.size();
            lease.encoder().encode(piece, ids);
            if (!spans) return;
            size_t end = plain_start + start;
            for (size_t missing = spaced; i < ids.size(); ++i, missing = 0) {  // the added space is in no text
                const size_t begin = end;
                end += parts_.vocabulary.tokens[ids[i]].size() - missing;
                push_span(begin, end);
            }
        };
        parts_.pre_tokenizer.split(plain, std::exchange(continues, false), with_space, encode_piece);
    };
    const auto encode_stretch = [&](std::string_view original) {
        if (spans) stretch = start_in(text, original);
        normalized = normalizer_.normalize(original, normal_form, spans ? &alignment : nullptr);
        in_normalized_.split(normalized, options.allow_special, encode_plain, [&](int id, std::string_view found) {
            ids.push_back(id);
            const size_t begin = start_in(normalized, found);
            if (spans) push_span(begin, begin + found.size());
        });
    };
    in_original_.split(text, options.allow_special, encode_stretch, [&](int id, std::string_view found) {
        ids.push_back(id);
        const size_t begin = start_in(text, found);
        if (spans) spans->push_back({begin, begin + found.size()});
    });
}

}  // namespace

Tokenizer make_tokenizer(TokenizerParts parts, const std::string& name) {
    return Tokenizer(std::make_unique<const ByteLevelTokenizer>(std::move(parts), name));
}

}  // namespace kiln
