#include "tools/formats/foreign_file.h"

#include <algorithm>
#include <cmath>

#include "cpu_reference/interface/error.h"
#include "tokenizer/huggingface/parts.h"
#include "tokenizer/io/file.h"
#include "tokenizer/sentencepiece/tokenizer.h"

namespace kiln {

std::optional<Tokenizer> tokenizer_of(const ModelFiles& files) {
    const auto content = [&](const char* name) {
        const auto found = std::ranges::find(files.files, name, &TokenizerKind::File::name);
        return found == files.files.end() ? std::string() : found->content;
    };
    SideFiles side;
    side.added_tokens = content("added_tokens.json"), side.special_tokens_map = content("special_tokens_map.json");
    side.config = content("tokenizer_config.json"), side.chat_template = content("chat_template.jinja");
    const std::string json = content("tokenizer.json"), model = content("tokenizer.model");
    const std::string vocab = content("vocab.json"), merges = content("merges.txt");
    if (!json.empty()) return make_tokenizer(parse_tokenizer_json(json, "tokenizer.json", side), "tokenizer.json");
    if (!model.empty()) return make_sentencepiece_tokenizer(model, "tokenizer.model", side);
    if (vocab.empty() || merges.empty()) return std::nullopt;
    return make_tokenizer(parse_vocab_and_merges(vocab, "vocab.json", merges, "merges.txt", side), "vocab.json");
}

void check_replaces_nothing(const std::filesystem::path& path, const std::string& content) {
    KILN_CHECK(!exists(status_of(path)) || read_file(path) == content, path.string(),
               ": is another tokenizer, which would be replaced; move it away, or write to another directory");
}

void check_finite(const std::filesystem::path& path, const TensorSpec& spec, std::span<const float> values) {
    KILN_CHECK(std::ranges::all_of(values, [](float value) { return std::isfinite(value); }), path.string(), ": ",
               spec.name, " holds a value that is not finite; the file is damaged, get it again");
}

ModelFiles files_beside(const std::filesystem::path& tokenizer) {
    return exists(status_of(tokenizer)) ? ModelFiles(tokenizer, {}) : ModelFiles();
}

}  // namespace kiln
