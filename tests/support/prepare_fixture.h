#pragma once
// A tokenizer, documents and options for `kiln prepare`, and functions that read its output.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/temp_directory.h"
#include "tokenizer/bpe/trainer.h"
#include "tokenizer/data/dataloader.h"
#include "tokenizer/data/shard.h"
#include "tokenizer/io/file.h"
#include "tokenizer/prepare/prepare.h"
#include "tokenizer/tokenizer.h"

namespace kiln {

namespace fs = std::filesystem;
using Texts = std::vector<std::string>;

inline std::string words(std::mt19937& random, int n) {
    const char* const list[] = {"the", "poem", "of", "moon", "river", "\xE5\x94\x90", "\xE8\xAF\x97", "1234", "x\ny"};
    std::string text;
    for (int i = 0; i < n; i++) text += std::string(i ? " " : "") + list[random() % 9];
    return text;
}

class Prepare : public testing::Test {
protected:
    Prepare() {
        BpeTrainer trainer({.vocab_size = 300, .special_tokens = {"<|endoftext|>"}});
        std::mt19937 random(1);
        trainer.add_text(words(random, 2000), "text");
        tokenizer = std::make_unique<Tokenizer>(trainer.train());
        tokenizer->save(fs::path(dir / "tokenizer"));
        options.tokenizer = dir / "tokenizer";
        options.output = dir / "shards";
        options.documents.separator = "%";
        options.documents.block_bytes = size_t(64) << 10;  // small, so that each thread gets several blocks
        options.val_fraction = 0;
    }

    // Writes documents between lines of % and makes the file the only input.
    void input(const Texts& documents, const std::string& name = "input.txt") {
        std::string text;
        for (const std::string& document : documents) text += document + "\n%\n";
        options.inputs = {dir.write(name, text).string()};
    }
    Texts many(int n, unsigned seed = 7) {
        std::mt19937 random(seed);
        Texts documents;
        for (int i = 0; i < n; i++)
            documents.push_back(std::to_string(i) + " " + words(random, 1 + int(random() % 40)));
        return documents;
    }
    std::vector<int> tokens_of(const std::vector<fs::path>& shards) {
        std::vector<int> tokens;
        for (const fs::path& path : shards) {
            const Shard shard(path);
            shard.verify();
            const size_t before = tokens.size();
            tokens.resize(before + shard.info().num_tokens);
            shard.copy(0, shard.info().num_tokens, &tokens[before]);
        }
        return tokens;
    }
    // The documents that the shards hold, as text.
    Texts documents_of(const std::vector<fs::path>& shards) {
        Texts documents;
        std::vector<int> ids;
        const std::vector<int> tokens = tokens_of(shards);
        EXPECT_TRUE(tokens.empty() || tokens[0] == tokenizer->end_of_text());
        for (size_t i = 1; i <= tokens.size(); i++) {
            if (i == tokens.size() || tokens[i] == tokenizer->end_of_text()) {
                documents.push_back(tokenizer->decode(std::exchange(ids, {})));
            } else {
                ids.push_back(tokens[i]);
            }
        }
        return tokens.empty() ? Texts{} : documents;
    }
    DataPaths found() { return find_data(options.output.string()); }
    // Every file of the output directory with its content.
    std::map<std::string, std::string> snapshot(const fs::path& directory) {
        std::map<std::string, std::string> files;
        for (const auto& entry : fs::directory_iterator(directory)) {
            files[entry.path().filename()] = read_file(entry.path());
        }
        return files;
    }
    // "" if they are equal, else the name of the first file that differs.
    static std::string difference(const std::map<std::string, std::string>& a,
                                  const std::map<std::string, std::string>& b) {
        for (const auto& [name, content] : a) {
            if (!b.contains(name)) return name + " is extra";
            if (b.at(name) != content) return name + " differs";
        }
        for (const auto& [name, content] : b) {
            if (!a.contains(name)) return name + " is missing";
        }
        return "";
    }
    std::string error() {
        return error_of([&] { prepare(options); });
    }

    TempDirectory dir;
    std::unique_ptr<Tokenizer> tokenizer;
    PrepareOptions options;
};

}  // namespace kiln
