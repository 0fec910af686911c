#pragma once
// --gpus N: this process starts a process for each rank on this machine, and waits for them. It computes nothing. It
// passes signals and output on, and ends all ranks when one fails.
#include <chrono>
#include <ostream>
#include <string>
#include <vector>

namespace kiln {

struct SpawnOptions {
    std::string program = "/proc/self/exe";
    std::vector<std::string> args = {};  // argv, with the program's name
    int size = 1;
    std::chrono::milliseconds patience = std::chrono::seconds(10);  // after a failure, from SIGTERM to SIGKILL
};

// Rank 0 writes to the standard output and the standard error of this process. The lines of the other ranks go to `out`
// and `err`, each with "[rank 1] " in front. SIGTERM, SIGINT, SIGUSR1 and SIGHUP are passed on to each rank once. If a
// rank fails, the others get SIGTERM, and SIGKILL after `patience`. No rank outlives this process, even if this process
// is killed. Returns the exit code of the rank that failed first (1 if a signal killed it), else 3 if a rank ended with
// 3, else 0. Call it on the main thread, after catch_stop_signals.
int spawn_ranks(const SpawnOptions& options, std::ostream& out, std::ostream& err);

}  // namespace kiln
