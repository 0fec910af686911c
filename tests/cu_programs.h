#pragma once
// The GPU's programs on the emulator, for tests that run them beside those of the CPU.
#include "cpu_reference/error.h"
#include "tests/train_program.h"

namespace kiln {

inline const char* const kTrainCu = "../simt/train_gpt2cu";

inline Finished train_cu(const Args& args) {
    return run_program(program_path(kTrainCu), args);
}

// What stands behind the last `key`, a number.
inline double number_after(const std::string& text, const std::string& key) {
    const size_t at = text.rfind(key);
    if (at == std::string::npos) throw Error(concat("no ", key, " in ", text));
    return std::stod(text.substr(at + key.size()));
}

}  // namespace kiln
