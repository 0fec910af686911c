// Every kernel with every shape and element type of its families, against the float32 reference; on the emulator, in
// three schedules.
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "tests/cuda/kernel_case.h"
#include "tests/cuda/needs.h"
#include "tests/cuda/schedules.h"

namespace kiln::test {
namespace {

struct Param {
    const KernelFamily* family;
    Element element;
};

class Kernels : public testing::TestWithParam<Param> {};

std::vector<Param> params() {
    std::vector<Param> all;
    for (const KernelFamily& family : kernel_families()) {
        for (const Element element : family.elements) all.push_back({&family, element});
    }
    return all;
}

TEST_P(Kernels, matches_reference) {
    const auto [family, element] = GetParam();
    KILN_SKIP_BELOW(std::max(family->needs, element == Element::bfloat16 ? family->bfloat16_needs : 0));
    for (const Shape& shape : family->test_shapes) {
        std::optional<uint64_t> bits;  // must not depend on the schedule
        const auto run = [&, family = family, element = element] {
            SCOPED_TRACE(to_string(shape));
            const auto test_case = family->make(element, shape);
            test_case->launch_and_wait();
            const uint64_t now = hash_of_tensors();
            ASSERT_EQ(bits.value_or(now), now) << "the bits depend on the order in which threads ran";
            bits = now;
            test_case->check();
        };
        // The threads of float16 do what those of bfloat16 do, so one schedule will do.
        if (element == Element::float16 && std::ranges::count(family->elements, Element::bfloat16) > 0) {
            run();
        } else {
            for_each_schedule(run);
        }
        if (HasFatalFailure()) return;
        for (int run = 1; run < 10 && !is_emulated(); ++run) {
            const auto again = family->make(element, shape);
            again->launch_and_wait();
            ASSERT_EQ(bits, hash_of_tensors()) << "run " << run << " of " << to_string(shape) << " gives other bits";
        }
    }
}

INSTANTIATE_TEST_SUITE_P(All, Kernels, testing::ValuesIn(params()), [](const auto& param) {
    return param.param.family->name + "_" + name_of(param.param.element);
});

}  // namespace
}  // namespace kiln::test
