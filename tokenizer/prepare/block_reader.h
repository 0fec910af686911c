#pragma once
// Reads input files, decompresses them and cuts them into blocks where records end. This is little work; other threads
// parse the blocks.
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tokenizer/io/byte_source.h"
#include "tokenizer/prepare/documents.h"
#include "tokenizer/prepare/record_scanner.h"

namespace kiln {

// Its memory is at most about 1.5 max_record_bytes + 2 block_bytes, for any files. Longer records are bad, and a longer
// part of a document that find_cut cannot cut is an Error; ordinary text is cut into chunks of chunk_bytes.
class BlockReader {
public:
    // Starts at `from`.
    BlockReader(std::vector<InputFileInfo> files, DocumentOptions options, const InputPosition& from = {});
    // Returns false at the end. Throws Error with the file's name if it is unreadable, damaged, or lacks the column.
    bool next(Block& block);
    uint64_t bytes_read() const;   // of all files, before decompression
    uint64_t bytes_total() const;  // of the files with a known size
    // Members of archives that were left out, since their names are not those of data.
    const std::vector<std::string>& passed_over() const { return passed_over_; }

private:
    bool open(const InputPosition& from);  // the next text of the file; false: there is none
    void read_csv_header(char delimiter, uint64_t skip);
    void fill(size_t bytes);  // reads until pending_ has this size, or the file ends
    size_t text_end();        // end of the next block; 0: more text is needed
    size_t record_end();
    void drop(size_t bytes);  // removes the start of pending_ without a block
    void give(Block& block, size_t bytes);
    void report(std::string what, size_t at);

    const std::vector<InputFileInfo> files_;
    const DocumentOptions options_;
    const LineRule lines_;
    size_t file_ = 0;  // the open file, or the next one
    uint64_t bytes_before_ = 0, bytes_total_ = 0;
    InputPosition from_;  // where to start in the next file

    std::vector<std::string> passed_over_;

    // Of the open file, and of the open text in it:
    std::optional<ByteSource> source_;
    uint64_t member_ = 0;  // texts before it, in an archive
    bool open_text_ = false;
    DocumentFormat format_ = DocumentFormat::text;
    CsvLayout csv_;
    std::unique_ptr<RecordScanner> scanner_;
    std::string pending_;  // read, but not yet in a block
    bool at_end_ = false;
    uint64_t offset_ = 0, line_ = 1, record_ = 0;              // of pending_, and the records before it
    uint64_t skipped_ = 0;                                     // records after records_ that were left out
    bool continues_ = false, in_line_ = false, open_ = false;  // as in Block
    std::vector<Block::Span> records_;
    std::vector<BadRecord> bad_;
};

}  // namespace kiln
