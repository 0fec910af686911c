#pragma once
// The orders in which the emulated device may run a program. On a GPU there is one: its own.
#include <functional>

namespace kiln::test {

// Runs `body` once for each, and names the schedule in what fails.
void for_each_schedule(const std::function<void()>& body);
bool is_emulated();
// How many blocks the emulated device runs at once.
void set_workers(unsigned workers);

}  // namespace kiln::test
