#pragma once
// Cuts blocks into chunks of documents. Each thread does this before it encodes.
#include <functional>
#include <vector>

#include "tokenizer/prepare/documents.h"
#include "tokenizer/prepare/record_scanner.h"

namespace kiln {

class BlockParser {
public:
    explicit BlockParser(DocumentOptions options) : options_(std::move(options)), lines_(options_) {}

    using OnChunk = std::function<void(const Chunk&)>;
    // Passes on every chunk in order; its text is valid only during the call. Ignores documents of white space only.
    // Adds bad records, and those of the reader, to `bad` in order.
    void parse(const Block& block, const OnChunk& on_chunk, BadRecords& bad);

private:
    void parse_text(const Block& block, const OnChunk& on_chunk, BadRecords& bad);
    // `at`: offset of the document in the block, for messages.
    void cut(const Block& block, size_t at, std::string_view document, bool starts, bool drop_newlines,
             const OnChunk& on_chunk, BadRecords& bad);
    void give(const Block& block, size_t at, Chunk chunk, const OnChunk& on_chunk, BadRecords& bad);

    const DocumentOptions options_;
    const LineRule lines_;
    JsonRecords json_;
};

}  // namespace kiln
