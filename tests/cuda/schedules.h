#pragma once
// The orders in which the emulator runs threads and blocks. On a GPU there is only the GPU's own order.
#include <functional>

namespace kiln::test {

// Runs `body` once for each schedule. A failure names the schedule.
void for_each_schedule(const std::function<void()>& body);
bool is_emulated();
// How many blocks the emulator runs at once.
void set_workers(unsigned workers);

}  // namespace kiln::test
