#pragma once
// Standard output and standard error as a program needs them: a failed write to standard output is reported, and no
// write blocks a program that was asked to stop.
#include <memory>
#include <string>

namespace kiln {

// While an object of this class exists, std::cout and std::cerr write through its buffers. A program waits for a reader
// that is slow or stopped, as usual, but after a stop signal it waits no longer and drops the text. If the reader has
// closed the pipe, the text is dropped too, unless SIGPIPE ends the program. Standard error, and a terminal on standard
// output, get escapes for control characters: names in files, and texts of a model, must not control a terminal. What
// cannot be written to standard error is dropped. If standard output cannot be written, std::cout throws Error; a
// program whose work is worth more than its output turns this off by std::cout.exceptions(std::ios::goodbit).
class StandardStreams {
public:
    StandardStreams();
    StandardStreams(const StandardStreams&) = delete;
    ~StandardStreams();
    // Writes what is buffered, and closes standard output. Throws Error if this or an earlier write failed. Text that
    // was dropped is no failure.
    void finish();

private:
    class Buffer;
    std::unique_ptr<Buffer> out_, err_;
};

// A write waits for a reader, such as a stopped terminal.
bool output_waits();

// Both write to standard error, from any thread: a line, and text that controls the terminal.
void write_error_line(const std::string& text);
void write_error_controls(const std::string& text);

}  // namespace kiln
