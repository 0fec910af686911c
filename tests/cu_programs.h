#pragma once
// The GPU's programs on the emulator, for tests that run them beside those of the CPU.
#include <sstream>

#include "cpu_reference/error.h"
#include "tests/markov_data.h"
#include "tests/process.h"
#include "tokenizer/file.h"

namespace kiln {

using Args = std::vector<std::string>;

inline Args operator+(Args a, const Args& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

inline const char* const kTrainCu = "../simt/train_gpt2cu";

inline Finished train_cu(const Args& args) {
    return run_program(program_path(kTrainCu), args);
}
inline Finished train_cpu(const Args& args) {
    return run_program(program_path("train_gpt2"), args);
}

// What stands behind the last `key`, a number.
inline double number_after(const std::string& text, const std::string& key) {
    const size_t at = text.rfind(key);
    if (at == std::string::npos) throw Error(concat("no ", key, " in ", text));
    return std::stod(text.substr(at + key.size()));
}

}  // namespace kiln
