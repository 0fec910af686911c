#pragma once
// The parts a DocumentReader is made of: lines, JSON records, and the cutting of documents into pieces.
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/documents.h"
#include "tokenizer/file.h"

namespace kiln {

// A file through a buffer, with the place it has come to. A byte order mark at its start is passed over.
class BufferedInput {
public:
    explicit BufferedInput(const std::filesystem::path& path);

    // A line with its newline. One longer than the buffer comes in parts: starts_line is true of the first only,
    // ends_line of the last. False at the end of the file. The view is valid until the next call.
    bool next_line(std::string_view& part, bool& starts_line, bool& ends_line);
    // The next byte, or -1 at the end.
    int next_byte();

    uint64_t line() const { return line_; }      // of the byte that comes next, from 1
    uint64_t offset() const { return offset_; }  // of the byte that comes next, from 0
    uint64_t bytes_read() const { return bytes_read_; }
    const std::filesystem::path& path() const { return file_.path(); }

private:
    bool fill();  // reads more behind what is left; false at the end
    void take(size_t bytes) {
        begin_ += bytes;
        offset_ += bytes;
    }

    InputFile file_;
    std::vector<char> buffer_;
    size_t begin_ = 0, end_ = 0;  // what is not taken yet
    uint64_t line_ = 1, offset_ = 0, bytes_read_ = 0;
    bool at_line_start_ = true, at_end_ = false;
};

// One JSON value after another out of [a, b, ...] or out of a plain sequence a b ..., by its brackets alone.
class JsonScanner {
public:
    explicit JsonScanner(BufferedInput& input) : input_(input) {}
    // False at the end. `line` is where the value starts. Throws Error if the text ends within a value.
    bool next(std::string& value, uint64_t& line);

private:
    int next_visible();
    BufferedInput& input_;
    bool started_ = false, in_array_ = false, done_ = false;
};

// The text of one JSON record. `where` (file and line) stands in messages.
std::string record_text(std::string_view record, const std::string& text_key, const std::string& where);

// Collects a document and gives it out in pieces: append() and end() as the text comes, take() until it returns false.
class PieceCutter {
public:
    explicit PieceCutter(size_t piece_bytes) : piece_bytes_(piece_bytes) {}

    // `line`, `offset`: where `part` stands in the file.
    void append(std::string_view part, uint64_t line, uint64_t offset);
    void end(bool drop_newlines);  // the document ends here
    // The next piece if it is certain what it is. A document of white space only gives none. Throws Error if the piece
    // is not UTF-8.
    bool take(Piece& piece, const std::filesystem::path& path);

private:
    std::string_view text() const { return std::string_view(text_).substr(taken_); }
    size_t find_cut();  // 0: none yet
    void emit(Piece& piece, size_t bytes, const std::filesystem::path& path);

    size_t piece_bytes_;
    std::string text_;
    size_t taken_ = 0;     // bytes of text_ that are given out already
    size_t searched_ = 0;  // in text(): no good place to cut before this
    bool started_ = false, ended_ = false;
    uint64_t line_ = 1, offset_ = 0;  // of text()
};

}  // namespace kiln
