#pragma once
// The families of kernels. ROW(foo): foo.cpp in this folder defines add_foo_families.
#include <vector>

#include "tests/cuda/kernel_case.h"

// clang-format off
#define KILN_KERNEL_CASES(ROW) \
    ROW(adamw) ROW(attention) ROW(attention_cached) ROW(bias) \
    ROW(cast) ROW(dropout) ROW(embedding) ROW(flash_attention) \
    ROW(loss) ROW(mlp) ROW(norm) ROW(norm_backward) \
    ROW(ptx) ROW(qk_norm) ROW(rope) ROW(sample)
// clang-format on

namespace kiln::test {

#define KILN_DECLARE(name) void add_##name##_families(std::vector<KernelFamily>& families);
KILN_KERNEL_CASES(KILN_DECLARE)
#undef KILN_DECLARE

inline void add_all_families(std::vector<KernelFamily>& families) {
#define KILN_ADD(name) add_##name##_families(families);
    KILN_KERNEL_CASES(KILN_ADD)
#undef KILN_ADD
}

}  // namespace kiln::test
