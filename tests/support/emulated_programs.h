#pragma once
// The GPU programs on the emulator, for tests that compare them with the CPU programs.
#include "cpu_reference/interface/error.h"
#include "tests/support/train_program.h"

namespace kiln {

inline Finished train_cu(const Args& args) {
    return run_program(program_path("train_gpt2cu"), args);
}

// The number after the last `key`.
inline double number_after(const std::string& text, const std::string& key) {
    const size_t at = text.rfind(key);
    if (at == std::string::npos) throw Error(concat("no ", key, " in ", text));
    return std::stod(text.substr(at + key.size()));
}

}  // namespace kiln
