#pragma once
// Standard output and standard error as a program needs them: no write that is lost stays unnoticed, and none blocks a
// program that was asked to stop.
#include <memory>
#include <string>

namespace kiln {

// While it lives, std::cout and std::cerr write by themselves. A program waits for a reader that is slow or stopped, as
// usual, but once a stop signal came, it waits no longer and drops the text. Text that nobody reads any more is dropped
// too (by programs that ignore SIGPIPE). Standard error, and a terminal on standard output, get escapes for control
// characters: names in files, and texts of a model, must not control a terminal. What cannot be written to standard
// error is dropped. After a failure of standard output std::cout throws Error, unless its exceptions() are cleared, by
// a program whose work is worth more than its output.
class StandardStreams {
public:
    StandardStreams();
    StandardStreams(const StandardStreams&) = delete;
    ~StandardStreams();
    // Writes what is left, and closes standard output. Throws Error if any of it was lost.
    void finish();

private:
    class Buffer;
    std::unique_ptr<Buffer> out_, err_;
};

// Both write to standard error, from any thread: a line, and text that controls the terminal.
void write_error_line(const std::string& text);
void write_error_controls(const std::string& text);

}  // namespace kiln
