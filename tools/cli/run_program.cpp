#include "tools/cli/run_program.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <filesystem>
#include <iostream>
#include <mutex>
#include <new>
#include <system_error>

#include "cpu_reference/interface/error.h"
#include "tokenizer/unicode/utf8.h"
#include "tools/cli/standard_streams.h"
#include "tools/cli/stop_signal.h"

namespace kiln {

namespace {

// Of an error that the standard library throws. Its own text of one that concerns a file is
// "filesystem error: OPERATION: REASON [PATH]".
std::string message_of(const std::system_error& error) {
    if (const auto* file = dynamic_cast<const std::filesystem::filesystem_error*>(&error)) {
        const std::string text = error.what();
        const size_t begin = text.find(": ") + 2;
        return concat(file->path1().string(), ": ", text.substr(begin, text.find(" [", begin) - begin), "; ",
                      error.code() == std::errc::no_space_on_device
                          ? "free some space"
                          : "check this path, its permissions, and that the current directory still exists");
    }
    if (error.code() != std::errc::resource_unavailable_try_again) return error.what();
    return concat("no thread can be started: ", error.code().message(),
                  "; end other programs, or allow more threads (ulimit -u, pids.max of the control group)");
}

// Read by other threads too. It belongs to the process, so this does.
struct Prefix {
    std::mutex mutex;
    std::string text;
};
Prefix& prefix() {
    static Prefix& one = *new Prefix;
    return one;
}
void add_to_prefix(const std::string& name) {
    Prefix& p = prefix();
    const std::lock_guard lock(p.mutex);
    p.text += name + ": ";
}

}  // namespace

std::string error_prefix() {
    Prefix& p = prefix();
    const std::lock_guard lock(p.mutex);
    return p.text;
}

void name_rank_in_errors(const std::string& rank) {
    add_to_prefix(rank);
}

void end_where_memory_ends(const std::string& message) {
    static std::string line;
    static std::atomic<bool> memory_ended = false;
    static const std::terminate_handler otherwise = std::get_terminate();
    line = message + "\n";
    // libc loads what an exception needs to leave its call_once when it first happens, and aborts if it has no memory.
    std::once_flag flag;
    try {
        std::call_once(flag, [] { throw 0; });
    } catch (int) {
    }
    std::set_new_handler([] {
        memory_ended = true;
        throw std::bad_alloc();
    });
    std::set_terminate([] {
        if (!memory_ended) otherwise();
        [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
        ::_exit(1);
    });
}

ErrorReport current_error(const std::string& out_of_memory) {
    try {
        throw;
    } catch (const UsageError& error) {
        return {2, error.what()};
    } catch (const std::bad_alloc&) {
        return {1, "out of memory; " + out_of_memory};
    } catch (const std::system_error& error) {
        return {1, message_of(error)};
    } catch (const std::exception& error) {
        return {1, error.what()};
    }
}

void print_error(const std::string& message) {
    std::cout.exceptions(std::ios::goodbit);  // one error is enough
    // At once: another thread may print too. It may quote a file.
    write_error_line(error_prefix() + replace_invalid_utf8(message));
}

int run_program(int argc, char** argv, const std::string& name, const std::string& out_of_memory,
                const std::function<int(const std::string&, const std::vector<std::string>&)>& run) {
    const std::string program = argc > 0 ? std::filesystem::path(argv[0]).filename().string() : name;
    add_to_prefix(program);
    StandardStreams streams;
    int done = 0;  // what `run` returned
    end_where_memory_ends(program + ": out of memory; " + out_of_memory);
    try {
        take_signals_in_one_thread();
        done = run(program, std::vector<std::string>(argv + std::min(argc, 1), argv + argc));
        streams.finish();
        return done;
    } catch (const std::exception&) {
        const ErrorReport error = current_error(out_of_memory);
        print_error(error.message);
        return done != 0 ? done : error.code;
    }
}

}  // namespace kiln
