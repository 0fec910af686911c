#pragma once
// Documents out of files of text, one after another in bounded memory. A long document comes in pieces.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace kiln {

// What one document is in a file of plain text. In .jsonl, .ndjson and .json it is one record, whatever this says.
enum class DocumentMode { file, line, paragraph };  // paragraph: lines between blank lines

struct DocumentOptions {
    DocumentMode mode = DocumentMode::file;
    std::string separator = {};     // not empty: documents stand between lines that are exactly this; mode is ignored
    std::string text_key = "text";  // the field of a JSON record that holds the text
    size_t piece_bytes = size_t(256) << 10;  // a longer document is cut
};

// A document or a part of one. Text is valid UTF-8. Newlines at the end of a line, a paragraph or a separated document
// are dropped; so are documents of white space only.
struct Piece {
    std::string text;
    bool starts_document = false, ends_document = false;
};

// Every input file: the files named, and those of the directories named (recursively, sorted by path: .txt .text .md
// .jsonl .ndjson .json; hidden files and the files Kiln writes are passed over). Throws Error if one is missing, holds
// no such file, or is of a kind that cannot be read (compressed, binary).
std::vector<std::filesystem::path> find_documents(const std::vector<std::string>& inputs);

// A piece is cut where a byte-level tokenizer cuts anyway (after a newline between two visible characters, else before
// a space between two letters), so the tokens are those of the uncut document; only a run of more than four times
// piece_bytes without such a place is cut elsewhere. Where depends on the document alone.
class DocumentReader {
public:
    DocumentReader(std::vector<std::filesystem::path> files, DocumentOptions options);
    DocumentReader(DocumentReader&&) noexcept;
    ~DocumentReader();

    // False at the end. Throws Error naming file, line and byte: text that is not UTF-8, a record that is not JSON or
    // has no text.
    bool next(Piece& piece);
    uint64_t bytes_read() const;   // of all files, so far
    uint64_t bytes_total() const;  // of all files whose size is known

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace kiln
