#include "tests/cuda/schedules.h"

namespace kiln::test {

void for_each_schedule(const std::function<void()>& body) {
    body();
}

bool is_emulated() {
    return false;
}

void set_workers(unsigned) {}

}  // namespace kiln::test
