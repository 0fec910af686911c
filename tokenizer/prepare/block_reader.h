#pragma once
// Input files -> blocks: reads, unpacks and finds the ends of records, which is little work; what is in the blocks is
// for the threads that take them.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tokenizer/io/byte_source.h"
#include "tokenizer/prepare/documents.h"
#include "tokenizer/prepare/record_scanner.h"

namespace kiln {

// Holds at most about max(4 piece_bytes, max_record_bytes) + 2 block_bytes, whatever the files hold.
class BlockReader {
public:
    // Begins at `from`.
    BlockReader(std::vector<InputFileInfo> files, DocumentOptions options, const InputPosition& from = {});
    // False at the end. Throws Error naming the file: it cannot be read, is damaged, or lacks the wanted column.
    bool next(Block& block);
    uint64_t bytes_read() const;   // of all files, as they are packed
    uint64_t bytes_total() const;  // of the files whose size is known

private:
    void open(const InputPosition& from);
    void read_csv_header(uint64_t skip);
    void fill(size_t bytes);  // pending_ grows to so many, if there are
    size_t text_end();        // where the block may end; 0: more is needed
    size_t record_end();
    void drop(size_t bytes);  // of a record that is left out
    void give(Block& block, size_t bytes);
    void report(std::string what, size_t at);

    const std::vector<InputFileInfo> files_;
    const DocumentOptions options_;
    const LineRule lines_;
    size_t file_ = 0;  // the one that is open, or the next
    uint64_t bytes_before_ = 0, bytes_total_ = 0;
    InputPosition from_;  // for the file opened next

    // Of the open file.
    std::optional<ByteSource> source_;
    DocumentFormat format_ = DocumentFormat::text;
    CsvLayout csv_;
    std::unique_ptr<RecordScanner> scanner_;
    std::string pending_;  // read, not given out
    bool at_end_ = false;
    uint64_t offset_ = 0, line_ = 1, record_ = 0;              // of pending_; records before it
    uint64_t skipped_ = 0;                                     // behind records_, of which no block tells
    bool continues_ = false, in_line_ = false, open_ = false;  // as in Block
    std::vector<Block::Span> records_;
    std::vector<BadRecord> bad_;
};

}  // namespace kiln
