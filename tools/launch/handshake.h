#pragma once
// How the ranks of a launch connect: rank 0 listens, each of the others opens three connections to it (for calls,
// for the calls of the thread that saves, and for the watch), and all get a list of the ranks. Connections that are not
// of this launch are refused.
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "tools/launch/socket.h"
#include "tools/launch/world.h"

namespace kiln {

struct ControlOptions {
    std::chrono::milliseconds launch_timeout{120'000};  // until all ranks are connected
    std::chrono::milliseconds rank_timeout{300'000};    // a rank may make no progress while others wait; 0: no limit
    std::chrono::milliseconds least_timeout{20'000};    // the least to which a run shortens rank_timeout
    std::chrono::milliseconds silence{15'000};          // after this time without a heartbeat, a rank hangs
    std::chrono::milliseconds beat{500};                // between two heartbeats
    std::chrono::milliseconds answer{5'000};            // for rank 0 to answer a hello
    std::string build = {};                             // must be the same on all ranks; empty: this_build()
};

struct RankName {
    int rank = 0;
    std::string host = {};
    int64_t pid = 0;
    std::string text() const;  // "rank 2 (host, pid 1234)"
};

struct Joined {
    std::vector<RankName> ranks;  // all, by rank
    // On rank 0: the connection to each rank, by rank, with an empty one for rank 0 itself. On the other ranks: one
    // connection, to rank 0.
    std::vector<Socket> calls, saves, watch;
};

// Returns on all ranks when all are connected. Throws Error on all connected ranks if one is missing at the end of
// launch_timeout, if two have the same rank, or if the number of ranks or the build differs.
Joined join(const World& world, const ControlOptions& options);

// The file into which rank 0 writes its address (-pf).
std::filesystem::path shared_file(const World& world);

// The version and a hash of the running program.
std::string this_build();

}  // namespace kiln
