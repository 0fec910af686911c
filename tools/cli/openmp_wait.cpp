#include "tools/cli/openmp_wait.h"

#include <unistd.h>

#include <cstdlib>

namespace kiln {

void sleep_when_threads_wait(char** argv) {
    if (std::getenv("OMP_WAIT_POLICY") || std::getenv("GOMP_SPINCOUNT")) return;
    // About 40 microseconds, which is longer than the serial code between two parallel regions.
    if (setenv("GOMP_SPINCOUNT", "1000", 1) != 0) return;
    ::execv("/proc/self/exe", argv);
    // Without /proc the program continues with the default: slower on a busy machine, but correct.
}

}  // namespace kiln
