// The GPUs of most desktops compute two doubles a clock and multiprocessor, so an exponential in double costs as much
// as some hundred other operations. Counts those of sampling.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>

#include "tests/cuda/kernel_case.h"

namespace kiln::test {
namespace {

std::atomic<int64_t> exponentials;

}  // namespace
}  // namespace kiln::test

// Stands in for the C library's in this program.
extern "C" double exp(double x) noexcept {
    static const auto of_library = reinterpret_cast<double (*)(double)>(dlsym(RTLD_NEXT, "exp"));
    ++kiln::test::exponentials;
    return of_library(x);
}

namespace kiln::test {

TEST(Exponentials, sampling_computes_one_for_each_token) {
    const auto& families = kernel_families();
    const auto sample = std::ranges::find(families, "sample", &KernelFamily::name);
    ASSERT_NE(sample, families.end());
    constexpr int kRows = 3, kVocab = 3001;
    for (const int options : {1, 3, 4}) {  // all tokens, top-p, and top-k with top-p
        const auto drawn = sample->make(Element::float32, {{"N", kRows}, {"V", kVocab}, {"options", options}});
        exponentials = 0;
        drawn->launch_and_wait();
        EXPECT_GT(exponentials, 0);
        EXPECT_LE(exponentials, kRows * kVocab) << "options " << options;
    }
}

}  // namespace kiln::test
