// What the programs show on a terminal, which the tests imitate by a pseudo-terminal.
#include <gtest/gtest.h>
#include <sys/ioctl.h>

#include <cstdlib>
#include <sstream>
#include <thread>

#include "tests/support/train_program.h"

namespace kiln {
namespace {

const char* const kModel = "llama:layers=1,dim=16,heads=2,kv_heads=1,ctx=16";

// The lines that train_gpt2 writes to a terminal with this number of columns.
std::vector<std::string> lines_on_terminal(const Args& args, unsigned short columns) {
    const int screen = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (screen < 0 || grantpt(screen) != 0 || unlockpt(screen) != 0) throw std::runtime_error("no pseudo-terminal");
    const std::string name = ptsname(screen);
    const int program_side = open(name.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC);
    const winsize size{.ws_row = 24, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
    ioctl(screen, TIOCSWINSZ, &size);
    std::string text;
    std::thread reader([&] {
        char buffer[4096];
        for (ssize_t n; (n = read(screen, buffer, sizeof buffer)) > 0;) text.append(buffer, size_t(n));
    });
    const Finished result = run_program(program_path("train_gpt2"), args, "", name);
    close(program_side);  // the reader ends when no process has it open
    reader.join();
    close(screen);
    EXPECT_EQ(result.code, 0) << result.err;
    std::erase(text, '\r');
    std::vector<std::string> lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    return lines;
}

class Terminal : public TrainProgram {
protected:
    Args base() const { return {"-i", data(), "-e", kModel, "-b", "4", "-x", "50", "-v", "0", "--threads", "1"}; }
};

TEST_F(Terminal, lines_fit_its_width_and_are_about_one_a_second) {
    for (const unsigned short columns : {40, 300}) {
        const auto began = std::chrono::steady_clock::now();
        const std::vector<std::string> lines = lines_on_terminal(base(), columns);
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
        ASSERT_GE(lines.size(), 2u);
        EXPECT_LE(lines.size(), 2 + size_t(seconds));
        EXPECT_TRUE(lines.front().starts_with("step  1/50 | loss ")) << lines.front();
        EXPECT_TRUE(lines.back().starts_with("step 50/50 | loss ")) << lines.back();
        for (const std::string& line : lines) {
            EXPECT_LE(line.size(), std::min<size_t>(columns, 100)) << line;
            EXPECT_EQ(line.find("n/a"), std::string::npos) << line;
        }
    }
    EXPECT_EQ(lines_on_terminal(base() + Args{"--log-every", "10"}, 100).size(), 6u);
}

TEST_F(Terminal, a_file_gets_every_step_and_log_every_fewer_lines_but_all_in_the_logs) {
    const auto count = [](const std::string& text) { return std::count(text.begin(), text.end(), '\n'); };
    EXPECT_EQ(count(train_cpu(base()).out), 50);
    EXPECT_EQ(count(train_cpu(base() + Args{"--log-every", "auto"}).out), 50);
    EXPECT_EQ(count(train_cpu(base() + Args{"--log-every", "20", "-o", run()}).out), 4);
    EXPECT_EQ(count(read_file(run() / "main.log")), 50);
}

}  // namespace
}  // namespace kiln
