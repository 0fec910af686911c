#include "tokenizer/tokenizer.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "cpu_reference/error.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/file.h"
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

}  // namespace

struct Tokenizer::Data {
    TokenizerParts parts;
    BpeModel model;
    Normalizer normalizer;
    std::vector<bool> special;                    // by id
    AddedTokenFinder in_original, in_normalized;  // of the added tokens to look for there
    mutable EncoderPool encoders;

    Data(TokenizerParts p, const std::string& name)
        : parts(std::move(p)),
          model(parts.vocabulary, parts.is_text, name),
          normalizer(parts.normalizer),
          special(parts.vocabulary.tokens.size()),
          encoders(model) {
        for (const AddedToken& token : parts.added) special[token.id] = token.special;
        std::vector<AddedToken> normal_forms = parts.added;
        std::string buffer;
        for (AddedToken& token : normal_forms) token.content = std::string(normalizer.normalize(token.content, buffer));
        in_original = AddedTokenFinder(select(parts.added, false));
        in_normalized = AddedTokenFinder(select(normal_forms, true));
    }
};

Tokenizer make_tokenizer(TokenizerParts parts, const std::string& name) {
    return Tokenizer(std::make_unique<const Tokenizer::Data>(std::move(parts), name));
}

Tokenizer::Tokenizer(std::unique_ptr<const Data> data) : data_(std::move(data)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::parse(std::string_view json, const std::string& name) {
    return make_tokenizer(parse_tokenizer_json(json, name), name);
}

Tokenizer Tokenizer::load(const std::filesystem::path& path) {
    namespace fs = std::filesystem;
    KILN_CHECK(fs::exists(path), path.string(), ": no such tokenizer; name a directory or a tokenizer.json");
    if (!fs::is_directory(path)) return parse(MappedFile(path).text(), path.string());

    TokenizerParts parts;
    const fs::path json = path / "tokenizer.json", vocab = path / "vocab.json", merges = path / "merges.txt";
    if (fs::exists(json)) {
        parts = parse_tokenizer_json(MappedFile(json).text(), json.string());
    } else {
        KILN_CHECK(fs::exists(vocab) && fs::exists(merges), path.string(),
                   ": holds no tokenizer.json, nor vocab.json with merges.txt");
        parts = parse_vocab_and_merges(MappedFile(vocab).text(), vocab.string(), MappedFile(merges).text(),
                                       merges.string());
    }
    const auto keep = [&](const char* name, std::string& content) {
        if (fs::exists(path / name)) content = read_file(path / name);
    };
    keep("tokenizer_config.json", parts.config_json);
    keep("special_tokens_map.json", parts.special_tokens_map_json);
    return make_tokenizer(std::move(parts), path.string());
}

void Tokenizer::save(const std::filesystem::path& directory) const {
    std::error_code failed;
    std::filesystem::create_directories(directory, failed);
    KILN_CHECK(!failed, directory.string(), ": cannot create the directory: ", failed.message());
    const TokenizerParts& parts = data_->parts;
    write_file_atomic(directory / "vocab.json", write_vocab_json(parts));
    write_file_atomic(directory / "merges.txt", write_merges_text(parts));
    write_file_atomic(directory / "special_tokens_map.json", write_special_tokens_map(parts));
    write_file_atomic(directory / "tokenizer_config.json", write_tokenizer_config(parts));
    write_file_atomic(directory / "tokenizer.json", to_json());
}

std::string Tokenizer::to_json() const {
    return write_tokenizer_json(data_->parts);
}

std::vector<int> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
    const Data& data = *data_;
    if (data.parts.normalizer != NormalizerKind::kNone) {
        const auto invalid = find_invalid_utf8(text);
        KILN_CHECK(!invalid, "text that is not UTF-8, first at byte ", invalid.value_or(0),
                   "; this tokenizer's normalizer (", normalizer_name(data.parts.normalizer), ") takes UTF-8 only");
    }
    EncoderPool::Lease lease(data.encoders);
    std::vector<int> ids;
    ids.reserve(text.size() / 3);
    std::string normal_form, with_space;
    bool continues = options.continues;
    const auto encode_plain = [&](std::string_view plain) {
        data.parts.pre_tokenizer.split(plain, std::exchange(continues, false), with_space,
                                       [&](std::string_view piece) { lease.encoder().encode(piece, ids); });
    };
    const auto emit_added = [&](int id) { ids.push_back(id); };
    data.in_original.split(
        text, options.allow_special,
        [&](std::string_view original) {
            data.in_normalized.split(data.normalizer.normalize(original, normal_form), options.allow_special,
                                     encode_plain, emit_added);
        },
        emit_added);
    return ids;
}

std::string_view Tokenizer::token_bytes(int id) const {
    const auto& tokens = data_->parts.vocabulary.tokens;
    KILN_CHECK(id >= 0 && static_cast<size_t>(id) < tokens.size(), "token id ", id,
               " is out of range: the vocabulary has ids 0 to ", tokens.size() - 1);
    return tokens[id];
}

std::string Tokenizer::decode(const std::vector<int>& ids) const {
    std::string text;
    for (const int id : ids) text += token_bytes(id);
    return text;
}

bool Tokenizer::is_special(int id) const {
    return id >= 0 && static_cast<size_t>(id) < data_->special.size() && data_->special[id];
}

int Tokenizer::vocab_size() const {
    return static_cast<int>(data_->parts.vocabulary.tokens.size());
}

std::optional<int> Tokenizer::token_id(std::string_view token) const {
    for (const AddedToken& added : data_->parts.added) {
        if (added.content == token) return added.id;
    }
    return std::nullopt;
}

int Tokenizer::end_of_text() const {
    const int id = find_end_of_text(data_->parts.added);
    KILN_CHECK(id >= 0,
               "the tokenizer has no end-of-text token (<|endoftext|>, </s>, ...); train it with --special-tokens "
               "'<|endoftext|>'");
    return id;
}

std::string DecodeStream::push(int id) {
    pending_ += tokenizer_.token_bytes(id);
    const size_t whole = pending_.size() - incomplete_utf8_tail(pending_);
    std::string text = pending_.substr(0, whole);
    pending_.erase(0, whole);
    return text;
}

std::string DecodeStream::finish() {
    return std::exchange(pending_, {});
}

}  // namespace kiln
