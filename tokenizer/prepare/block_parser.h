#pragma once
// Blocks -> pieces of documents: what each thread does first.
#include <functional>
#include <vector>

#include "tokenizer/prepare/documents.h"
#include "tokenizer/prepare/record_scanner.h"

namespace kiln {

class BlockParser {
public:
    explicit BlockParser(DocumentOptions options) : options_(std::move(options)), lines_(options_) {}

    using OnPiece = std::function<void(const Piece&)>;
    // Every piece in order; its text is valid during the call. Documents of white space only are none. Bad records go
    // to `bad` with the reader's own, in their order.
    void parse(const Block& block, const OnPiece& on_piece, std::vector<BadRecord>& bad);

private:
    void parse_text(const Block& block, const OnPiece& on_piece, std::vector<BadRecord>& bad);
    // `at`: where the document stands in the block, for messages.
    void cut(const Block& block, size_t at, std::string_view document, bool starts, bool drop_newlines,
             const OnPiece& on_piece, std::vector<BadRecord>& bad);
    void give(const Block& block, size_t at, Piece piece, const OnPiece& on_piece, std::vector<BadRecord>& bad);

    const DocumentOptions options_;
    const LineRule lines_;
    JsonRecords json_;
};

}  // namespace kiln
