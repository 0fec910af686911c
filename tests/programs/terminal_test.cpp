// What the programs show on a terminal, which the tests imitate by a pseudo-terminal.
#include <gtest/gtest.h>

#include <regex>
#include <sstream>

#include "cpu_reference/interface/error.h"
#include "tests/support/pseudo_terminal.h"
#include "tests/support/train_program.h"
#include "tokenizer/bpe/trainer.h"
#include "tokenizer/tokenizer.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

const char* const kModel = "llama:layers=1,dim=16,heads=2,kv_heads=1,ctx=16";

// The lines that train_gpt2 writes to a terminal with this number of columns.
std::vector<std::string> lines_on_terminal(const Args& args, unsigned short columns) {
    PseudoTerminal terminal(columns);
    const Finished result = run_program(program_path("train_gpt2"), args, "", terminal.path());
    EXPECT_EQ(result.code, 0) << result.err;
    std::string text = terminal.text();
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

// The commands after "next:" in the summary.
std::vector<std::string> next_commands(const std::string& err) {
    const size_t at = err.find("\nnext:\n");
    if (at == err.npos) return {};
    std::istringstream lines(err.substr(at + 7));
    std::vector<std::string> commands;
    for (std::string line; std::getline(lines, line) && line.starts_with("  ");) commands.push_back(line.substr(2));
    return commands;
}

TEST_F(Terminal, a_run_ends_with_a_summary_and_three_commands_that_work) {
    BpeTrainer trainer({.vocab_size = 260, .special_tokens = {"<|endoftext|>"}});
    trainer.add_text("床前明月光", "text");
    trainer.train().save(data());
    const Args args{"-i", data(), "-e", concat(kModel, ",vocab=300"), "-b", "4", "-x", "6", "-v", "2", "-n", "2"};
    const fs::path run = directory_ / "it's a run";
    const Finished result = train_cpu(args + Args{"-o", run});
    ASSERT_EQ(result.code, 0) << result.err;
    const std::string summary = result.err.substr(result.err.find("\ntrained to step 6 of 6 in "));
    EXPECT_TRUE(std::regex_search(summary, std::regex("^\ntrained to step 6 of 6 in [^,]+, [0-9.]+k? tokens/s\n"
                                                      "best validation loss \\d\\.\\d{4} "
                                                      "\\(perplexity [0-9.]+\\) at step [0246]\n"
                                                      "checkpoint .*/model -> checkpoint-00000006; the best is "
                                                      ".*/best -> checkpoint-0000000[246]\nnext:\n")))
        << summary;
    const std::vector<std::string> commands = next_commands(result.err);
    ASSERT_EQ(commands.size(), 3u) << result.err;
    for (const std::string& command : commands) {
        EXPECT_NE(command.find("it'\\''s a run"), std::string::npos) << command;
        const Finished next = run_program("/bin/sh", {"-c", command});
        EXPECT_EQ(next.code, 0) << command << "\n" << next.err;
    }
    EXPECT_TRUE(fs::exists(run / "checkpoint-00000012"));  // the last command trained as many steps again
}

TEST_F(Terminal, the_best_validation_loss_is_that_of_the_whole_run) {
    // The loss rises from the first validation on, because the rate is far too high.
    const Args args{"-i", data(), "-e", kModel, "-b", "4", "-v", "2", "-l", "10", "-o", run(), "--threads", "1"};
    ASSERT_EQ(train_cpu(args + Args{"-x", "4"}).code, 0);
    const Finished resumed = train_cpu({"-o", run(), "--resume", "-x", "8"});
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    EXPECT_NE(resumed.err.find(") at step 0\ncheckpoint "), std::string::npos) << resumed.err;
}

TEST_F(Terminal, without_output_or_validation_the_summary_is_short_and_a_stopped_run_is_to_be_resumed) {
    const Finished result = train_cpu(base());
    EXPECT_NE(result.err.find("\ntrained to step 50 of 50 in "), std::string::npos) << result.err;
    EXPECT_EQ(result.err.find("best validation"), std::string::npos) << result.err;
    EXPECT_TRUE(next_commands(result.err).empty()) << result.err;
    const std::string command =
        concat("'", program_path("train_gpt2").string(), "' -i '", data().string(), "' -e ", kModel,
               " -b 4 -x 1000000 -v 0 --threads 1 -o '", run().string(), "' >/dev/null & while [ ! -e '",
               run().string(), "/metrics.jsonl' ]; do sleep 0.05; done; kill -TERM $!; wait $!");
    const Finished stopped = run_program("/bin/sh", {"-c", command});
    EXPECT_EQ(stopped.code, 3) << stopped.err;
    const std::vector<std::string> commands = next_commands(stopped.err);
    ASSERT_EQ(commands.size(), 3u) << stopped.err;
    EXPECT_TRUE(commands[0].ends_with("--resume")) << commands[0];
    EXPECT_NE(commands[1].find("kiln inspect "), std::string::npos) << commands[1];  // there is no tokenizer
}

}  // namespace
}  // namespace kiln
