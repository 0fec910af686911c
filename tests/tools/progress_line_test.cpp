#include "tools/cli/progress_line.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/support/pseudo_terminal.h"

namespace kiln {
namespace {

// A line that is too long would be broken, and "\r" would only return to its last part.
TEST(ProgressLine, is_narrower_than_the_terminal) {
    PseudoTerminal terminal(60);
    const int before = dup(STDERR_FILENO);
    dup2(terminal.program_side(), STDERR_FILENO);
    {
        ProgressLine line;
        std::this_thread::sleep_for(std::chrono::milliseconds(250));  // until it is due
        line.show("encoding", 50, 100, "MB", ", 123456 documents, 17.3 million tokens, 3 bad records");
    }
    dup2(before, STDERR_FILENO);
    close(before);
    const std::string start = "\r\033[K", text = terminal.text();
    ASSERT_TRUE(text.starts_with(start + "encoding [############            ] 50 of 100 MB, ")) << text;
    EXPECT_EQ(text.find(start, 1), start.size() + 59) << text;
}

}  // namespace
}  // namespace kiln
