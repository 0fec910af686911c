// kiln: everything but training, as subcommands.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <iostream>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "tools/cli/options.h"
#include "tools/commands/commands.h"

namespace {

struct Command {
    std::string_view name, summary;
    int (*run)(const std::vector<std::string>&);
};

constexpr Command kCommands[] = {
    {"tokenizer", "train, import, encode, decode", kiln::command_tokenizer},
    {"prepare", "documents to shards of tokens", kiln::command_prepare},
    {"generate", "text from a model", kiln::command_generate},
    {"eval", "loss, perplexity and bits per byte of a model on shards", kiln::command_eval},
    {"inspect", "what is in a shard, a tokenizer, a checkpoint or a run", kiln::command_inspect},
    {"plot", "the loss curve of a run as SVG", kiln::command_plot},
};

void print_help(std::ostream& out) {
    out << "kiln COMMAND [OPTIONS]\n\n";
    for (const Command& command : kCommands) {
        out << "  " << command.name << std::string(12 - command.name.size(), ' ') << command.summary << "\n";
    }
    out << "\n`kiln COMMAND --help` lists a command's options. Training is train_gpt2, on a GPU train_gpt2cu.\n"
           "Exit codes: 0 done, 1 failed, 2 wrong usage.\n";
}

int run(const std::vector<std::string>& words) {
    if (words.empty()) {
        print_help(std::cerr);
        return 2;
    }
    if (words[0] == "--help" || words[0] == "-h" || (words[0] == "help" && words.size() == 1)) {
        print_help(std::cout);
        return 0;
    }
    const bool help = words[0] == "help";
    const std::string& name = words[help ? 1 : 0];
    std::vector<std::string> names;
    for (const Command& command : kCommands) {
        if (command.name == name) {
            return command.run(help ? std::vector<std::string>{"--help"}
                                    : std::vector<std::string>(words.begin() + 1, words.end()));
        }
        names.emplace_back(command.name);
    }
    throw kiln::UsageError(kiln::concat("there is no command '", name, "'; the nearest is '",
                                        kiln::nearest(name, names), "'. `kiln --help` lists them all"));
}

}  // namespace

int main(int argc, char** argv) {
    const std::string program = argc > 0 ? std::filesystem::path(argv[0]).filename().string() : "kiln";
    int code = 1;
    try {
        code = run(std::vector<std::string>(argv + std::min(argc, 1), argv + argc));
        std::cout.flush();
        // A full disk behind standard output shows only here; results that were lost are a failure.
        if (!std::cout || std::fflush(stdout) != 0) {
            std::cerr << program
                      << ": standard output could not be written (disk full or closed); the result is incomplete\n";
            return 1;
        }
        return code;
    } catch (const kiln::UsageError& error) {
        std::cerr << program << ": " << error.what() << "\n";
        code = 2;
    } catch (const std::bad_alloc&) {
        std::cerr << program
                  << ": out of memory; use a smaller model, batch or sequence, or a machine with more memory\n";
    } catch (const std::exception& error) {
        std::cerr << program << ": " << error.what() << "\n";
    }
    return code;
}
