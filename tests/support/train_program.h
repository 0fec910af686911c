#pragma once
// A fixture that runs the trainer as a program, on shards of a Markov chain.
#include <gtest/gtest.h>

#include "tests/support/markov_data.h"
#include "tests/support/process.h"
#include "tokenizer/io/file.h"

namespace kiln {

using Args = std::vector<std::string>;

inline Args operator+(Args a, const Args& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

inline Finished train_cpu(const Args& args) {
    return run_program(program_path("train_gpt2"), args);
}

class TrainProgram : public ::testing::Test {
protected:
    TrainProgram() {
        setenv("KILN_OUTPUT", "", 1);  // no run directory unless a test gives one
        write_markov_shards(data(), 4000, 600);
    }
    std::filesystem::path data() const { return directory_ / "data"; }
    std::filesystem::path run() const { return directory_ / "run"; }

    TempDirectory directory_;
};

}  // namespace kiln
