#pragma once
// A fixture that reads documents with BlockReader and BlockParser together, as the threads of `kiln prepare` do.
#include <gtest/gtest.h>

#include <set>

#include "cpu_reference/interface/error.h"
#include "tests/support/temp_directory.h"
#include "tokenizer/pre_tokenizer/pre_tokenizer.h"
#include "tokenizer/prepare/block_parser.h"
#include "tokenizer/prepare/block_reader.h"

namespace kiln {

using Texts = std::vector<std::string>;
using Paths = std::vector<std::filesystem::path>;

class Documents : public testing::Test {
protected:
    static Paths found(const Paths& inputs) {
        Paths paths;
        for (const InputFileInfo& file : find_documents({inputs.begin(), inputs.end()}).files)
            paths.push_back(file.path);
        return paths;
    }
    // Documents of one file, each put together from its chunks.
    Texts read(const std::string& name, std::string_view content, const DocumentOptions& options = {}) {
        return read_files({dir.write(name, content)}, options);
    }
    Texts read_files(const std::vector<std::filesystem::path>& files, const DocumentOptions& options = {}) {
        std::vector<InputFileInfo> inputs;
        for (const auto& file : files) inputs.push_back({.path = file, .bytes = std::filesystem::file_size(file)});
        BlockReader reader(inputs, options);
        BlockParser parser(options);
        Texts documents;
        chunks = 0;
        bad = {};
        bool within = false;
        for (Block block; reader.next(block);) {
            parser.parse(
                block,
                [&](const Chunk& chunk) {
                    EXPECT_EQ(chunk.starts_document, !within);
                    if (chunk.starts_document) documents.emplace_back();
                    documents.back() += chunk.text;
                    cuts.emplace_back(chunk.text);
                    chunks++;
                    within = !chunk.ends_document;
                },
                bad);
        }
        EXPECT_FALSE(within);
        EXPECT_EQ(reader.bytes_read(), reader.bytes_total());
        return documents;
    }
    // The first bad record, or the Error.
    std::string error(const std::string& name, std::string_view content, const DocumentOptions& options = {}) {
        const std::string thrown = error_of([&] { read(name, content, options); });
        return !thrown.empty() || bad.count == 0 ? thrown : bad.first[0].place + ": " + bad.first[0].what;
    }
    // The ids of a document must not depend on where it was cut.
    void expect_word_ends_at_cuts(const std::string& text) const {
        for (const auto& named : named_pre_tokenizers()) {
            if (named.regexes.empty()) continue;
            std::set<const char*> ends;
            PreTokenizer(named.kind).split(text, [&](std::string_view word) { ends.insert(word.end()); });
            const char* at = text.data();
            for (const std::string& cut : cuts) EXPECT_TRUE(ends.contains(at += cut.size())) << named.name;
        }
    }
    TempDirectory dir;
    int chunks = 0;
    Texts cuts;
    BadRecords bad;
};

}  // namespace kiln
