#pragma once
// What the fuzzers run, and the corpus test too: each takes any bytes. A parser may throw kiln::Error on them; anything
// else, and an answer that contradicts itself, is a finding (std::logic_error, or a sanitizer's).
#include <string_view>

namespace kiln {

struct FuzzTarget {
    const char* name;  // of its folder in tests/fuzz/corpus
    void (*run)(std::string_view input);
};

inline constexpr int kFuzzTargets = 22;
extern const FuzzTarget fuzz_targets[kFuzzTargets];

}  // namespace kiln
