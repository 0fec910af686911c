#pragma once
// The GPU's programs on the emulator, for tests that run them beside those of the CPU.
#include "cpu_reference/interface/error.h"
#include "tests/support/train_program.h"

namespace kiln {

inline Finished train_cu(const Args& args) {
    return run_program(program_path("train_gpt2cu"), args);
}

// What stands behind the last `key`, a number.
inline double number_after(const std::string& text, const std::string& key) {
    const size_t at = text.rfind(key);
    if (at == std::string::npos) throw Error(concat("no ", key, " in ", text));
    return std::stod(text.substr(at + key.size()));
}

}  // namespace kiln
