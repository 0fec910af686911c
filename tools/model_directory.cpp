#include "tools/model_directory.h"

#include <omp.h>

#include <filesystem>

#include "cpu_reference/error.h"
#include "tools/checkpoint.h"

namespace kiln {

void set_threads(int threads) {
    if (threads > 0) omp_set_num_threads(threads);
}

std::unique_ptr<Engine> open_engine(const std::string& directory, const EngineOptions& options) {
    std::unique_ptr<Engine> engine = make_engine(read_model_config(directory), options);
    load_weights(directory, *engine);
    return engine;
}

Tokenizer open_tokenizer(const std::string& tokenizer, const std::string& model_directory, const ModelConfig& config) {
    const std::filesystem::path path = tokenizer.empty() ? model_directory : tokenizer;
    KILN_CHECK(!tokenizer.empty() || std::filesystem::exists(path / "tokenizer.json") ||
                   std::filesystem::exists(path / "vocab.json") || std::filesystem::exists(path / "tokenizer.model"),
               path.string(), ": holds no tokenizer; name one with --tokenizer DIR");
    Tokenizer opened = Tokenizer::load(path);
    KILN_CHECK(opened.vocab_size() <= config.V, path.string(), ": the tokenizer has ", opened.vocab_size(),
               " ids, but the model has ", config.V, "; it belongs to another model");
    return opened;
}

std::optional<int> end_of_text_of(const Tokenizer& tokenizer) {
    try {
        return tokenizer.end_of_text();
    } catch (const Error&) {
        return std::nullopt;
    }
}

}  // namespace kiln
