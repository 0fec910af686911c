#include <gtest/gtest.h>

#include <cstdlib>

#include "dev/emulator/core/internal.h"
#include "tests/cuda/schedules.h"

namespace kiln::test {

void for_each_schedule(const std::function<void()>& body) {
    // Seeds 0, 1 and 2 are the ways in which a schedule can go: in order; shuffled with what is asynchronous done at
    // once; shuffled with it done late. A sanitizer runs fewer, `make test-long` more.
    const char* const wanted = std::getenv("SIMT_SCHEDULES");
    const unsigned schedules = wanted ? unsigned(std::strtoul(wanted, nullptr, 10)) : 3;
    for (unsigned seed = 0; seed < schedules; ++seed) {
        SCOPED_TRACE("SIMT_SEED=" + std::to_string(seed));
        simt::set_seed(seed);
        body();
        if (testing::Test::HasFatalFailure()) break;
    }
    simt::set_seed(0);
}

bool is_emulated() {
    return true;
}

void set_workers(unsigned workers) {
    simt::set_workers(workers);
}

}  // namespace kiln::test
