#pragma once
// The subcommands of kiln. A command is one row here and one file, which defines command_NAME: `args` are the words
// after the name; it returns the exit code, or throws Error (exit code 1) or UsageError (exit code 2).
#include <string>
#include <vector>

#include "tools/cli/options.h"

// ROW(name, summary)
#define KILN_COMMANDS(ROW)                                                                             \
    ROW(tokenizer, "train, import and apply tokenizers")                                               \
    ROW(prepare, "turn documents into shards of tokens")                                               \
    ROW(generate, "generate text with a model")                                                        \
    ROW(eval, "compute loss, perplexity and bits per byte of a model on shards")                       \
    ROW(import, "turn a model of another program into a model directory")                              \
    ROW(export, "write a model in the format of another program")                                      \
    ROW(inspect, "show the contents of a shard, a data directory, a tokenizer, a checkpoint or a run") \
    ROW(plot, "draw the loss curve of a run as SVG")

namespace kiln {

#define KILN_DECLARE(name, summary) int command_##name(const std::vector<std::string>& args);
KILN_COMMANDS(KILN_DECLARE)
#undef KILN_DECLARE

int train_tokenizer(const std::vector<std::string>& args);  // kiln tokenizer train; in train_tokenizer.cpp
OptionSpec overwrite_tokenizer_option();                    // of kiln tokenizer train and import

}  // namespace kiln
