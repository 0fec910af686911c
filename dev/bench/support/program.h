#pragma once
// What the benchmark programs share: main().
#include <iostream>
#include <string>
#include <vector>

#include "cpu_reference/interface/error.h"

namespace kiln::bench {

// main() of a benchmark. If `run` throws, it prints one line with the program's name and returns 1, or 2 for wrong
// usage.
inline int run_benchmark(const char* program, void (*run)(const std::vector<std::string>& args), int argc,
                         char** argv) {
    int code = 1;
    try {
        run({argv + 1, argv + argc});
        return 0;
    } catch (const UsageError& error) {
        std::cerr << program << ": " << error.what() << "\n";
        code = 2;
    } catch (const std::exception& error) {
        std::cerr << program << ": " << error.what() << "\n";
    }
    return code;
}

}  // namespace kiln::bench
