#pragma once
// How the ranks of a run find each other: rank 0 listens, each of the others connects twice (for calls, and for the
// watch), and all learn who the others are. Connections that are not of this run are refused.
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "tools/launch/socket.h"
#include "tools/launch/world.h"

namespace kiln {

struct ControlOptions {
    std::chrono::milliseconds launch_timeout{120'000};  // until all ranks are there
    std::chrono::milliseconds rank_timeout{300'000};    // without progress, while others wait; 0: no limit
    std::chrono::milliseconds least_timeout{20'000};    // the least to which a run shortens rank_timeout
    std::chrono::milliseconds silence{15'000};          // without a heartbeat: the process or its host hangs
    std::chrono::milliseconds beat{500};
    std::chrono::milliseconds answer{5'000};  // of rank 0 to a connection
    std::string build = {};                   // the same on all ranks; empty: of this program
};

struct RankName {
    int rank = 0;
    std::string host = {};
    int64_t pid = 0;
    std::string text() const;  // "rank 2 (host, pid 1234)"
};

struct Joined {
    std::vector<RankName> ranks;  // all, by rank
    // On rank 0 one of each rank (the first is empty); on the others one, to rank 0.
    std::vector<Socket> calls, watch;
};

// Returns on all ranks when all are there. Throws Error on all that have come if one does not come in time, or if they
// disagree about the number of ranks, their own number or the build.
Joined join(const World& world, const ControlOptions& options);

// The file in which rank 0 writes its address.
std::filesystem::path shared_file(const World& world);

// The version, and a hash of the running program.
std::string this_build();

}  // namespace kiln
