#pragma once
// --gpus N: starts a process for each rank on this machine, and waits for them. The process that does so computes
// nothing: it passes signals and output on, and ends all ranks when one fails.
#include <chrono>
#include <ostream>
#include <string>
#include <vector>

namespace kiln {

struct SpawnOptions {
    std::string program = "/proc/self/exe";
    std::vector<std::string> args = {};  // argv, with the program's name
    int size = 1;
    std::chrono::milliseconds patience = std::chrono::seconds(10);  // between SIGTERM and SIGKILL, after a failure
};

// Rank 0 has this process's standard output and standard error; lines of the others go to `out` and `err`, each with
// "[rank 1] " before it. SIGTERM, SIGINT, SIGUSR1 and SIGHUP are passed on, to each rank once. If a rank fails, the
// others get SIGTERM, and SIGKILL after `patience`. No rank outlives this process, even if it is killed. Returns the
// exit code: of the rank that failed first (1 if a signal killed it), else 3 if a rank ended with 3, else 0.
// Signals must be caught (catch_stop_signals), and this must be the main thread.
int spawn_ranks(const SpawnOptions& options, std::ostream& out, std::ostream& err);

}  // namespace kiln
