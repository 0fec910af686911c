#pragma once
// Who this process is among the processes of a training, and how they find each other: from the options, or from what
// torchrun, mpirun, srun or --gpus put into the environment.
#include <functional>
#include <map>
#include <string>

namespace kiln {

inline constexpr int kMaxRanks = 4096;
inline constexpr int kDefaultPort = 12345;  // llm.c's

// The options of llm.c, with their meanings there, and those of the launch itself.
struct LaunchOptions {
    std::string gpus = {};  // --gpus: a number or "all"; empty: this process is not a supervisor
    int processes = 1;      // -pn
    int rank = 0;           // -pr
    int per_node = 8;       // -pg
    // -pi: "mpi" (what the environment says), "tcp" or "fs"; "auto": tcp if there is a server, fs if a shared path
    std::string method = "auto";
    std::string server = {};        // -ps: HOST or HOST:PORT of rank 0
    std::string shared_path = {};   // -pf: a directory that all hosts share
    double launch_timeout_s = 120;  // until all ranks are there
    double rank_timeout_s = 300;    // for a rank that does not go on while others wait for it; 0: no limit
};

using Environment = std::map<std::string, std::string>;
Environment this_environment();

struct World {
    int rank = 0, size = 1;
    int local_rank = 0, local_size = 1;  // among those of this host
    std::string launcher = {};           // what told it: "torchrun", "mpirun", "srun", "--gpus", "-pn"; empty: one rank
    std::string master_addr = {};        // the host of rank 0
    int master_port = 0;
    std::string shared_directory = {};  // not empty: rank 0 writes its address into a file there
    std::string run_id = {};            // the same on all ranks of this start, and on no others; may be empty
    int listen_fd = -1;                 // of rank 0 under --gpus: the socket, already bound

    bool on_one_host() const;  // by its address, which only this host can reach
};

// The environment variables by which --gpus tells its ranks.
inline constexpr const char* kSupervisorVariable = "KILN_SUPERVISOR";  // the run's id
inline constexpr const char* kListenVariable = "KILN_LISTEN_DESCRIPTOR";

// The number of ranks that --gpus asks for: 1 if it is empty. `devices`: the GPUs of this machine, for "all"; it is
// asked only if there is something to compare. Throws UsageError.
int ranks_to_start(const LaunchOptions& options, const Environment& environment, const std::function<int()>& devices);

// In this order: the options, torchrun's variables, those of Open MPI, those of Slurm; otherwise one rank. Throws
// UsageError that names the option or the variable that is missing, is not a number or contradicts another one.
World find_world(const LaunchOptions& options, const Environment& environment);

// Throws UsageError if there are several ranks and nothing says where rank 0 is. MPI needs no such address.
void check_master(const World& world);

// The value of CUDA_VISIBLE_DEVICES with which a process sees only its own GPU, as device 0, so that nothing in it
// (a thread, a library) can use another rank's. "": unchanged, because there is one rank here, or a launcher has
// already given each process its GPU.
std::string own_gpu(const World& world, const Environment& environment);

}  // namespace kiln
