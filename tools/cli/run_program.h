#pragma once
// What every main does: it names the program in messages, and turns errors into exit codes.
#include <functional>
#include <string>
#include <vector>

namespace kiln {

// Calls `run` with the name of the program (`name` if argv has none) and its arguments, and returns its exit code. An
// error is printed to standard error; the exit code is then that of `run` if this is not 0, else 2 for UsageError and 1
// for any other error. `out_of_memory` says what to do about that.
int run_program(int argc, char** argv, const std::string& name, const std::string& out_of_memory,
                const std::function<int(const std::string& program, const std::vector<std::string>& args)>& run);

// Of the exception that is being handled, as run_program prints it.
struct ErrorReport {
    int code = 1;
    std::string message = {};
};
ErrorReport current_error(const std::string& out_of_memory);
void print_error(const std::string& message);

// What stands before each error of this process: the name of the program and, once there are several ranks, that of the
// rank: "train_gpt2: rank 1 (host): ". Empty before run_program.
std::string error_prefix();
void name_rank_in_errors(const std::string& rank);

// Memory may also run out where no exception can propagate: in a destructor (nlohmann-json's allocates) or in a thread.
// std::terminate then prints this message and exits with code 1 instead of raising SIGABRT.
void end_where_memory_ends(const std::string& message);

}  // namespace kiln
