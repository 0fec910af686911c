#pragma once
// The files with the tables of the benchmarks.
#include <cctype>
#include <ctime>
#include <fstream>
#include <iostream>
#include <string>

#include "cpu_reference/interface/error.h"

namespace kiln::bench {

inline std::string today() {
    const std::time_t now = std::time(nullptr);
    char text[16];
    std::strftime(text, sizeof text, "%Y-%m-%d", std::gmtime(&now));
    return text;
}

// "2026-11-21-kernels-nvidia-h200.md"
inline std::string results_name(const std::string& what, std::string device) {
    for (char& c : device) c = std::isalnum(static_cast<unsigned char>(c)) ? char(std::tolower(c)) : '-';
    return today() + "-" + what + "-" + device + ".md";
}

inline void write_results(const std::string& path, const std::string& text) {
    std::ofstream file(path);
    file << text;
    file.close();
    KILN_CHECK(file, "cannot write ", path);
    std::cerr << "wrote " << path << "\n";
}

}  // namespace kiln::bench
