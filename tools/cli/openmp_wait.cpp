#include "tools/cli/openmp_wait.h"

#include <unistd.h>

#include <cstdlib>

namespace kiln {

void sleep_when_threads_wait(char** argv) {
    if (std::getenv("OMP_WAIT_POLICY") || std::getenv("GOMP_SPINCOUNT")) return;
    // About 40 microseconds: longer than the serial stretches between two parallel ones.
    if (setenv("GOMP_SPINCOUNT", "1000", 1) != 0) return;
    ::execv("/proc/self/exe", argv);
    // Without /proc it goes on as it is: slower on a busy machine, no less right.
}

}  // namespace kiln
