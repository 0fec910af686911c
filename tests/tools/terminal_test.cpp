// What comes from files and models never controls a terminal.
#include "tools/cli/terminal.h"

#include <unistd.h>

#include <gtest/gtest.h>

#include <iostream>

#include "tests/support/pseudo_terminal.h"
#include "tools/cli/standard_streams.h"

namespace kiln {
namespace {

TEST(Printable, control_characters_become_escapes) {
    EXPECT_EQ(printable("a\x1b[31m\x07\x7f\xC2\x9b\xC2\xA0\u00e9\x80"),
              "a\\x1b[31m\\x07\\x7f\\u009b\xC2\xA0\u00e9\x80");
    EXPECT_EQ(printable("a\nb\tc\rd"), "a\\nb\\x09c\\x0dd");
    EXPECT_EQ(printable("a\r\nb\tc\rd", "\n\t"), "a\r\nb\tc\\x0dd");
    EXPECT_EQ(printable(std::string("\0", 1)), "\\x00");
}

TEST(StandardStreams, neither_stream_sends_control_characters_to_a_terminal) {
    for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) {
        PseudoTerminal terminal(80);
        const int before[] = {dup(STDOUT_FILENO), dup(STDERR_FILENO)};
        dup2(terminal.program_side(), STDOUT_FILENO);
        dup2(terminal.program_side(), STDERR_FILENO);
        {
            const StandardStreams streams;
            (fd == STDOUT_FILENO ? std::cout : std::cerr) << "\x1b]0;title\x07" << std::flush;
        }
        for (const int i : {0, 1}) {
            dup2(before[i], i + 1);
            close(before[i]);
        }
        EXPECT_EQ(terminal.text(), "\\x1b]0;title\\x07");
    }
}

}  // namespace
}  // namespace kiln
