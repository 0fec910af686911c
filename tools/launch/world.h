#pragma once
// The rank of this process in its training, and how the ranks find each other. Both come from the options, or from the
// environment variables of torchrun, mpirun, srun or --gpus.
#include <functional>
#include <map>
#include <string>

namespace kiln {

inline constexpr int kMaxRanks = 4096;
inline constexpr int kDefaultPort = 12345;  // llm.c's

// The options of llm.c, with their meanings there, and those of the launch itself.
struct LaunchOptions {
    std::string gpus = {};  // --gpus: a number or "all"; empty: this process starts no ranks
    int processes = 1;      // -pn
    int rank = 0;           // -pr
    int per_node = 8;       // -pg
    // -pi: "mpi" (the launcher's environment variables), "tcp" (server) or "fs" (shared_path); "auto": tcp if server is
    // given, else fs if shared_path is given, else mpi
    std::string method = "auto";
    std::string server = {};        // -ps: HOST or HOST:PORT of rank 0
    std::string shared_path = {};   // -pf: a directory that all hosts share
    double launch_timeout_s = 120;  // until all ranks are connected
    double rank_timeout_s = 300;    // for a rank that makes no progress while others wait for it; 0: no limit
};

using Environment = std::map<std::string, std::string>;
Environment this_environment();

struct World {
    int rank = 0, size = 1;
    int local_rank = 0, local_size = 1;  // among the ranks of this host
    std::string launcher = {};           // "torchrun", "mpirun", "srun", "--gpus" or "-pn"; empty: there is one rank
    std::string master_addr = {};        // the host of rank 0
    int master_port = 0;
    std::string shared_directory = {};  // not empty: rank 0 writes its address into a file there
    std::string run_id = {};            // the same on all ranks of this launch, and on no others; may be empty
    // Of rank 0, with --gpus and with MPI: the socket that listens already. -1: rank 0 opens one at master_port.
    int listen_fd = -1;

    bool on_one_host() const;  // whether master_addr is an address that only this host can reach
};

// The environment variables that --gpus sets for its ranks, in addition to torchrun's.
inline constexpr const char* kSupervisorVariable = "KILN_SUPERVISOR";     // World::run_id
inline constexpr const char* kListenVariable = "KILN_LISTEN_DESCRIPTOR";  // World::listen_fd

// The number of ranks that --gpus starts; 1 without --gpus. `devices` counts the GPUs of this machine. It is called
// only if --gpus is not 1. Throws UsageError.
int ranks_to_start(const LaunchOptions& options, const Environment& environment, const std::function<int()>& devices);

// Reads the first of these that is present: the options, torchrun's variables, those of Open MPI, those of Slurm. If
// there is none, there is one rank. Throws a UsageError that names the option or the variable that is missing, is not a
// number or contradicts another one.
World find_world(const LaunchOptions& options, const Environment& environment);

// Throws UsageError if there are several ranks and nothing says where rank 0 is. Where the ranks communicate by MPI,
// rank 0 has sent its address to the others before.
void check_master(const World& world);

// The value of CUDA_VISIBLE_DEVICES with which a process sees only its own GPU, as device 0. Then no thread and no
// library in it can use the GPU of another rank. "": the variable must not change, because there is one rank, or the
// launcher gave each process its own GPU.
std::string own_gpu(const World& world, const Environment& environment);

}  // namespace kiln
