// The help of every program begins with examples, and these are right.
#include <gtest/gtest.h>

#include <sstream>

#include "tests/support/process.h"
#include "tools/commands/commands.h"

namespace kiln {
namespace {

using Args = std::vector<std::string>;

#define KILN_NAME(name, summary) #name,
const char* const kCommands[] = {KILN_COMMANDS(KILN_NAME)};
#undef KILN_NAME

// The programs and commands whose --help lists options.
std::vector<Args> programs() {
    std::vector<Args> all = {{"train_gpt2"}};
    for (const std::string command : kCommands) {
        if (command != "tokenizer") all.push_back({"kiln", command});
    }
    for (const char* action : {"train", "import", "encode", "decode"}) all.push_back({"kiln", "tokenizer", action});
    return all;
}

std::string help_of(const Args& words) {
    Args args(words.begin() + 1, words.end());
    args.push_back("--help");
    const Finished result = run_program(program_path(words[0]), args);
    EXPECT_EQ(result.code, 0) << result.err;
    return result.out;
}

// The lines below "Examples:", which must come before everything except one paragraph.
std::vector<std::string> examples_in(const std::string& help) {
    const size_t at = help.find("\n\nExamples:\n");
    EXPECT_EQ(at, help.find("\n\n")) << help;
    if (at == help.npos) return {};
    std::istringstream lines(help.substr(help.find("  ", at)));
    std::vector<std::string> examples;
    for (std::string line; std::getline(lines, line) && line.starts_with("  ");) examples.push_back(line.substr(2));
    EXPECT_FALSE(examples.empty());
    return examples;
}

// The example is accepted as far as it is read before anything is opened.
void expect_accepted(const std::string& example, const TempDirectory& directory) {
    const std::string path = program_path("kiln").parent_path();
    const std::string command =
        "cd " + directory.path().string() + " && PATH=" + path + ":$PATH && " + example + " --print-config";
    const Finished result = run_program("/bin/sh", {"-c", command});
    EXPECT_EQ(result.code, 0) << example << "\n" << result.err;
    EXPECT_EQ(result.err, "") << example;
}

TEST(Help, of_every_program_begins_with_examples_that_it_accepts) {
    const TempDirectory directory;
    directory.write("my.txt", "");
    directory.write("ids.txt", "");
    for (const Args& words : programs()) {
        std::string name;
        for (const std::string& word : words) name += word + " ";
        for (const std::string& example : examples_in(help_of(words))) {
            EXPECT_TRUE(example.starts_with(name)) << example;
            EXPECT_LE(example.size(), 116u) << example;
            expect_accepted(example, directory);
        }
    }
}

TEST(Help, of_commands_that_have_commands_begins_with_examples_too) {
    const TempDirectory directory;
    directory.write("my.txt", "");
    directory.write("ids.txt", "");
    for (const Args& words : {Args{"kiln"}, Args{"kiln", "tokenizer"}}) {
        for (const std::string& example : examples_in(help_of(words))) expect_accepted(example, directory);
    }
}

}  // namespace
}  // namespace kiln
