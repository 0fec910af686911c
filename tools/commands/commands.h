#pragma once
// The subcommands of kiln, one function each in its command_NAME.cpp. `args` are the words after the subcommand.
// Returns the exit code; throws Error (exit 1) or UsageError (exit 2).
#include <string>
#include <vector>

namespace kiln {

int command_tokenizer(const std::vector<std::string>& args);
int train_tokenizer(const std::vector<std::string>& args);  // kiln tokenizer train; train_tokenizer.cpp
int command_prepare(const std::vector<std::string>& args);
int command_generate(const std::vector<std::string>& args);
int command_eval(const std::vector<std::string>& args);
int command_inspect(const std::vector<std::string>& args);
int command_plot(const std::vector<std::string>& args);

}  // namespace kiln
