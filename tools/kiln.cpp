// kiln: everything except training, as subcommands.
#include <iostream>
#include <string>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"
#include "tools/cli/run_program.h"
#include "tools/cli/synonyms.h"
#include "tools/cli/version.h"
#include "tools/commands/commands.h"

namespace kiln {
namespace {

struct Command {
    std::string name, summary;
    int (*run)(const std::vector<std::string>&);
};

#define KILN_ROW(name, summary) {#name, summary, command_##name},
const Command kCommands[] = {KILN_COMMANDS(KILN_ROW)};
#undef KILN_ROW

std::string help() {
    std::string text =
        "kiln: turns text into shards for training, and uses the trained models.\n\n"
        "Examples:\n"
        "  kiln tokenizer train --input my.txt --vocab-size 4096 --output tok\n"
        "  kiln prepare --input my.txt --tokenizer tok --documents line --val-fraction 0.05 --output shards\n"
        "  train_gpt2 -i shards -e llama:layers=4,dim=192,heads=6,ctx=128 -x 300 -o runs/mine\n"
        "  kiln generate --model runs/mine --prompt 'Once upon a time'\n\n"
        "Usage: kiln COMMAND [OPTIONS]\n\n";
    for (const Command& command : kCommands) text += "  " + padded(command.name, 12) + command.summary + "\n";
    return text +
           "\n`kiln COMMAND --help` lists the options of a command. To train a model, use train_gpt2, or "
           "train_gpt2cu on a GPU.\n"
           "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 stopped by a signal (prepare: the same command resumes "
           "it).\n";
}

int run(const std::vector<std::string>& words) {
    if (words.empty()) {
        std::cerr << help();
        return 2;
    }
    const bool asks_help = words[0] == "help";
    if (words[0] == "--help" || words[0] == "-h" || (asks_help && words.size() == 1)) {
        std::cout << help();
        return 0;
    }
    if (words[0] == "--version" || words[0] == "-V" || words[0] == "version") {
        std::cout << "kiln " << kVersion << "\n";
        return 0;
    }
    const std::string& name = words[asks_help ? 1 : 0];
    std::vector<std::string> args(words.begin() + 1, words.end());
    if (asks_help) args = {"--help"};
    std::vector<std::string> names;
    for (const Command& command : kCommands) {
        if (command.name == name) return command.run(args);
        names.push_back(command.name);
    }
    throw UsageError(concat("there is no command '", name, "'; did you mean ", meant_command(name, names),
                            "? `kiln --help` lists all commands"));
}

}  // namespace
}  // namespace kiln

int main(int argc, char** argv) {
    return kiln::run_program(
        argc, argv, "kiln", "use a smaller model, batch or sequence length, or a machine with more memory",
        [](const std::string&, const std::vector<std::string>& words) { return kiln::run(words); });
}
