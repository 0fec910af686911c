#include "tokenizer/tokenizer.h"

#include <algorithm>
#include <utility>

#include "cpu_reference/interface/error.h"
#include "tokenizer/formats/llama2c.h"
#include "tokenizer/formats/llmc.h"
#include "tokenizer/huggingface/parts.h"
#include "tokenizer/io/file.h"
#include "tokenizer/sentencepiece/tokenizer.h"
#include "tokenizer/tokenizer_impl.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {

namespace fs = std::filesystem;

EncodeCounts& EncodeCounts::operator+=(const EncodeCounts& other) {
    if (first_special < 0) first_special = other.first_special;
    special_as_text += other.special_as_text;
    unknown += other.unknown;
    left_out += other.left_out;
    return *this;
}

Tokenizer::Tokenizer(std::unique_ptr<const TokenizerKind> kind)
    : kind_(std::move(kind)),
      special_(static_cast<size_t>(kind_->vocab_size())),
      roles_(with_usual_names(kind_->roles(), kind_->added_tokens())) {
    for (const AddedToken& token : kind_->added_tokens()) special_[token.id] = token.special;
}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::parse(std::string_view json, const std::string& name) {
    return make_tokenizer(parse_tokenizer_json(json, name), name);
}

const std::vector<std::string>& tokenizer_file_names() {
    static const std::vector<std::string> names = {
        "tokenizer.json",        "vocab.json",      "merges.txt",      "added_tokens.json",  "special_tokens_map.json",
        "tokenizer_config.json", "tokenizer.model", "tokenizer.vocab", "chat_template.jinja"};
    return names;
}

fs::path find_tokenizer(const fs::path& directory, std::string* passed_over) {
    const auto has = [&](const char* name) { return fs::exists(status_of(directory / name)); };
    if (has("tokenizer.json") && has("tokenizer.model")) {
        const fs::path json = directory / "tokenizer.json", model = directory / "tokenizer.model";
        try {
            Tokenizer::parse(read_file(json), json.string());
        } catch (const Error& error) {
            if (passed_over)
                *passed_over = concat(model.string(), " is used instead of tokenizer.json: ", error.what());
            return model;
        }
    }
    if (has("tokenizer.json")) return directory / "tokenizer.json";
    if (has("vocab.json") && has("merges.txt")) return directory / "vocab.json";
    return has("tokenizer.model") ? directory / "tokenizer.model" : fs::path();
}

std::vector<fs::path> tokenizer_files(const fs::path& path) {
    KILN_CHECK(fs::exists(status_of(path)), path.string(),
               ": no such tokenizer; name a directory, a tokenizer.json or a .model");
    if (!fs::is_directory(status_of(path))) return {path};
    const fs::path main = find_tokenizer(path);
    KILN_CHECK(!main.empty(), path.string(),
               ": holds no tokenizer.json, nor vocab.json with merges.txt, nor tokenizer.model");
    std::vector<fs::path> files;
    files.push_back(main);
    for (const std::string& name : tokenizer_file_names()) {
        if (name == main.filename()) continue;
        const bool of_huggingface = name == "vocab.json" || name == "merges.txt";
        const bool of_sentencepiece = name == "tokenizer.model" || name == "tokenizer.vocab";
        const bool other = main.extension() == ".model" ? of_huggingface : of_sentencepiece;
        if (!other && fs::exists(status_of(path / name))) files.push_back(path / name);
    }
    return files;
}

void check_replaces_nothing(const fs::path& directory, const std::vector<TokenizerKind::File>& files) {
    for (const std::string& name : tokenizer_file_names()) {
        const fs::path path = directory / name;
        std::error_code ignored;
        if (!fs::exists(fs::symlink_status(path, ignored))) continue;
        const auto same = [&](const TokenizerKind::File& file) {
            return file.name == name && fs::is_regular_file(path, ignored) && read_file(path) == file.content;
        };
        KILN_CHECK(std::any_of(files.begin(), files.end(), same), path.string(),
                   ": would be replaced or removed; choose another --output, or replace the tokenizer there with "
                   "--overwrite");
    }
}

// Removes the temporary files of a killed process.
static void remove_leftovers(const fs::path& directory) {
    const std::vector<std::string>& names = tokenizer_file_names();
    std::error_code error, ignored;
    for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
        const std::string target = target_of_temporary(entry->path().filename().string());
        if (std::find(names.begin(), names.end(), target) != names.end()) fs::remove(entry->path(), ignored);
    }
}

void replace_tokenizer_files(const fs::path& directory, const std::vector<TokenizerKind::File>& files) {
    remove_leftovers(directory);
    for (const std::string& name : tokenizer_file_names()) {
        if (std::none_of(files.begin(), files.end(), [&](const auto& file) { return file.name == name; })) {
            std::error_code failed;
            fs::remove(directory / name, failed);
            KILN_CHECK(!failed, (directory / name).string(), ": cannot be removed: ", failed.message());
        }
    }
    // The main file comes last: if it is there, all others are.
    for (auto file = files.rbegin(); file != files.rend(); ++file)
        write_file_atomic(directory / file->name, file->content);
}

Tokenizer Tokenizer::load(const fs::path& path) {
    const fs::path main = tokenizer_files(path).front();
    if (main.extension() == ".model") {
        if (!fs::is_directory(status_of(path))) return make_sentencepiece_tokenizer(read_file(main), main.string());
        Tokenizer tokenizer = make_sentencepiece_tokenizer(read_file(main), main.string(), SideFiles::read(path));
        std::string passed_over;
        find_tokenizer(path, &passed_over);
        // What save() wrote for other programs is no surprise.
        const auto is_own = [&](const TokenizerKind::File& file) {
            return file.name == "tokenizer.json" && file.content == read_file(path / file.name);
        };
        if (!passed_over.empty() && std::ranges::none_of(tokenizer.kind_->files(), is_own))
            tokenizer.note_ = passed_over;
        return tokenizer;
    }
    if (!fs::is_directory(status_of(path))) {
        const std::string content = read_file(main), name = main.string();
        if (is_llmc_tokenizer(content)) return parse_llmc_tokenizer(content, name);
        return main.extension() == ".bin" ? parse_llama2c_tokenizer(content, name) : parse(content, name);
    }

    SideFiles side = SideFiles::read(path);
    const fs::path merges = path / "merges.txt";
    TokenizerParts parts =
        main.filename() == "tokenizer.json"
            ? parse_tokenizer_json(read_file(main), main.string(), side)
            : parse_vocab_and_merges(read_file(main), main.string(), read_file(merges), merges.string(), side);
    parts.side = std::move(side);
    return make_tokenizer(std::move(parts), path.string());
}

void Tokenizer::save(const fs::path& directory, bool overwrite) const {
    const std::vector<TokenizerKind::File> files = kind_->files();
    std::error_code failed;
    fs::create_directories(directory, failed);
    KILN_CHECK(!failed, directory.string(), ": cannot create the directory: ", failed.message());
    // Two processes at once would leave files of both.
    const DirectoryLock lock(directory);
    if (!overwrite) check_replaces_nothing(directory, files);
    replace_tokenizer_files(directory, files);
}

std::string Tokenizer::to_json() const {
    return kind_->files().front().content;
}

std::vector<int> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
    std::vector<int> ids;
    ids.reserve(text.size() / 3);
    encode(text, options, ids);
    return ids;
}

void Tokenizer::encode(std::string_view text, const EncodeOptions& options, std::vector<int>& ids) const {
    kind_->encode(text, options, ids, nullptr);
}

Encoding Tokenizer::encode_with_offsets(std::string_view text, const EncodeOptions& options) const {
    Encoding encoding;
    kind_->encode(text, options, encoding.ids, &encoding.spans);
    return encoding;
}

size_t Tokenizer::find_cut(std::string_view text, size_t from, const EncodeOptions& options) const {
    EncodeOptions without_counts = options;
    without_counts.counts = nullptr;
    return kind_->find_cut(text, std::max<size_t>(from, 1), without_counts);
}

std::string_view Tokenizer::token_bytes(int id) const {
    KILN_CHECK(id >= 0 && id < vocab_size(), "token id ", id, " is out of range: the vocabulary has ids 0 to ",
               vocab_size() - 1);
    return kind_->token_bytes(id);
}

std::string Tokenizer::decode(const std::vector<int>& ids, bool continues) const {
    std::string text;
    bool at_start = !continues;
    for (const int id : ids) {
        const std::string_view bytes = token_bytes(id);
        text += at_start ? kind_->bytes_at_start(id, at_start) : bytes;
    }
    return text;
}

bool Tokenizer::is_special(int id) const {
    return id >= 0 && static_cast<size_t>(id) < special_.size() && special_[id];
}

std::vector<bool> Tokenizer::special_ids(const std::vector<std::string>& texts) const {
    std::vector<bool> wanted(special_.size());
    for (const std::string& text : texts) {
        const std::optional<int> id = token_id(text);
        KILN_CHECK(id && is_special(*id), "\"", text, "\" is not a special token of the tokenizer");
        wanted[*id] = true;
    }
    return wanted;
}

int Tokenizer::vocab_size() const {
    return kind_->vocab_size();
}

std::optional<int> Tokenizer::token_id(std::string_view token) const {
    for (const AddedToken& added : kind_->added_tokens()) {
        if (added.content == token) return added.id;
    }
    return std::nullopt;
}

int Tokenizer::end_of_text() const {
    const auto& eos = roles_[Role::eos];
    KILN_CHECK(eos,
               "the tokenizer has no end-of-text token (<|endoftext|>, </s>, ...); train it with --special-tokens "
               "'<|endoftext|>', or import its .tiktoken file again with --special-tokens '<|endoftext|>=50256' (for "
               "the ranks of GPT-2)");
    return eos->id;
}

std::string DecodeStream::push(int id) {
    const std::string_view bytes = tokenizer_.token_bytes(id);
    pending_ += at_start_ ? tokenizer_.kind_->bytes_at_start(id, at_start_) : bytes;
    const size_t whole = pending_.size() - incomplete_utf8_tail(pending_);
    std::string text = pending_.substr(0, whole);
    pending_.erase(0, whole);
    return text;
}

std::string DecodeStream::finish() {
    return std::exchange(pending_, {});
}

}  // namespace kiln
