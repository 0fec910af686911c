#pragma once
// Reads a file, a pipe or a terminal by lines, and tells a failed read from the end of the text.
#include <cstddef>
#include <string>

#include "tokenizer/io/file.h"

namespace kiln {

class LineReader {
public:
    explicit LineReader(InputFile file) : file_(std::move(file)) {}
    // Reads complete lines with their newlines until they have at least `bytes` bytes, so one line by default. Only the
    // last line may lack its newline. Returns false at the end. Throws Error if the file cannot be read, if it has
    // changed since it was opened, or if a line is longer than 1 GiB.
    bool next(std::string& lines, size_t bytes = 1);

private:
    InputFile file_;
    std::string buffer_;
    size_t begin_ = 0;  // of the next line in `buffer_`
    bool at_end_ = false;
};

}  // namespace kiln
