#include "tools/launch/world.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "cpu_reference/interface/error.h"

namespace kiln {

namespace {

constexpr int kMaxPort = 65535;
constexpr const char* kLoopback = "127.0.0.1";

std::optional<int64_t> parse_int(std::string_view text) {
    int64_t value = 0;
    const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (status != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

// Reads the variables of one launcher. An empty variable counts as not set.
class Variables {
public:
    Variables(const Environment& environment, std::string launcher)
        : environment_(environment), launcher_(std::move(launcher)) {}

    const std::string& launcher() const { return launcher_; }
    std::string text(const std::string& name) const {
        const auto found = environment_.find(name);
        return found == environment_.end() ? "" : found->second;
    }
    bool has(const std::string& name) const { return !text(name).empty(); }
    std::string needed(const std::string& name) const {
        if (!has(name)) {
            throw UsageError(concat(name, " is missing in the environment, although ", launcher_,
                                    "'s other variables are set; set it too, or unset those"));
        }
        return text(name);
    }
    int number(const std::string& name, int64_t min, int64_t max) const {
        const std::string value = needed(name);
        const auto number = parse_int(value);
        if (!number || *number < min || *number > max) {
            throw UsageError(
                concat(name, "=", value, " in the environment: is not a whole number in [", min, ", ", max, "]"));
        }
        return int(*number);
    }
    // A number that must be less than `limit`, the value of another variable.
    int number_below(const std::string& name, const std::string& limit_name, int limit) const {
        const int value = number(name, 0, kMaxRanks - 1);
        if (value >= limit) {
            throw UsageError(
                concat(name, "=", value, " in the environment: must be less than ", limit_name, ", which is ", limit));
        }
        return value;
    }

private:
    const Environment& environment_;
    std::string launcher_;
};

// All ranks of a job get the same port. It is below the ports that Linux gives to clients (from 32768).
int port_of_job(std::string_view id) {
    uint32_t hash = 2166136261;  // FNV-1a
    for (const char c : id) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619;
    return 15000 + int(hash % 15000);
}

World numbered(const Variables& from, const char* rank, const char* size, const char* local_rank,
               const char* local_size) {
    World world{.launcher = from.launcher()};
    world.size = from.number(size, 1, kMaxRanks);
    world.rank = from.number_below(rank, size, world.size);
    if (world.size == 1 && !from.has(local_rank)) return world;
    world.local_size = from.number(local_size, 1, world.size);
    world.local_rank = from.number_below(local_rank, local_size, world.local_size);
    return world;
}

std::optional<World> by_torchrun(const Environment& environment) {
    const bool supervised = environment.contains(kSupervisorVariable);
    const Variables from(environment, supervised ? "--gpus" : "torchrun");
    if (!from.has("RANK") && !from.has("WORLD_SIZE")) return std::nullopt;
    World world = numbered(from, "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE");
    if (world.size == 1) return world;
    world.run_id = from.text("TORCHELASTIC_RUN_ID") + "." + from.text("TORCHELASTIC_RESTART_COUNT");
    world.master_addr = from.text("MASTER_ADDR");
    if (from.has("MASTER_PORT")) world.master_port = from.number("MASTER_PORT", 1, kMaxPort);
    // In this case torchrun itself listens on MASTER_PORT, so rank 0 takes the next port.
    if (from.text("TORCHELASTIC_USE_AGENT_STORE") == "True") world.master_port = world.master_port % kMaxPort + 1;
    if (supervised) {
        world.run_id = from.text(kSupervisorVariable);
        if (world.rank == 0) world.listen_fd = from.number(kListenVariable, 0, 1 << 20);
    }
    return world;
}

std::optional<World> by_mpirun(const Environment& environment) {
    const Variables from(environment, "mpirun");
    if (!from.has("OMPI_COMM_WORLD_RANK") && !from.has("OMPI_COMM_WORLD_SIZE")) return std::nullopt;
    World world = numbered(from, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
                           "OMPI_COMM_WORLD_LOCAL_SIZE");
    const char* const id = from.has("PMIX_NAMESPACE") ? "PMIX_NAMESPACE" : "OMPI_MCA_ess_base_jobid";
    world.run_id = from.text(id);
    world.master_addr = from.text("MASTER_ADDR");
    world.master_port = from.has("MASTER_PORT") ? from.number("MASTER_PORT", 1, kMaxPort) : port_of_job(world.run_id);
    return world;
}

// The number of tasks on a node: "4(x2),3" means 4, 4 and 3 tasks on nodes 0, 1 and 2. 0: the text has no such node.
int count_on_node(std::string_view text, int node) {
    while (!text.empty()) {
        const std::string_view entry = text.substr(0, text.find(','));
        text.remove_prefix(std::min(text.size(), entry.size() + 1));
        const size_t times = entry.find("(x");
        const auto count = parse_int(entry.substr(0, times));
        const auto repeated = times == std::string_view::npos
                                  ? std::optional<int64_t>(1)
                                  : parse_int(entry.substr(times + 2, entry.size() - times - 3));
        if (!count || !repeated || *count < 1 || *count > kMaxRanks) return 0;
        if (node < *repeated) return int(*count);
        node -= int(*repeated);
    }
    return 0;
}

// The first host of Slurm's list: of "gpu[03-10,12],login" it is "gpu03".
std::string first_host(std::string_view list) {
    std::string host;
    for (size_t i = 0; i < list.size() && list[i] != ','; i++) {
        if (list[i] != '[') {
            host += list[i];
            continue;
        }
        const size_t end = std::min(list.find(']', i), list.size());
        const std::string_view within = list.substr(i + 1, end - i - 1);
        host += within.substr(0, within.find_first_of(",-"));
        i = end;
    }
    return host;
}

// Only a process that srun starts is a rank. The shell of salloc and the script of sbatch have SLURM_NTASKS too, but
// run once. The shell of salloc may also be a step, but its number is one of those that Slurm reserves.
std::optional<World> by_slurm(const Environment& environment) {
    const Variables from(environment, "srun");
    constexpr int64_t kFirstReservedStep = 0xfffffff0;
    const auto step = parse_int(from.text("SLURM_STEP_ID"));
    if (!step || *step >= kFirstReservedStep || !from.has("SLURM_PROCID")) return std::nullopt;
    const char* const tasks = from.has("SLURM_STEP_NUM_TASKS") ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS";
    if (!from.has(tasks) || from.number(tasks, 1, kMaxRanks) == 1) return std::nullopt;
    World world{.launcher = "srun"};
    world.size = from.number(tasks, 1, kMaxRanks);
    world.rank = from.number_below("SLURM_PROCID", tasks, world.size);
    const char* const per_node =
        from.has("SLURM_STEP_TASKS_PER_NODE") ? "SLURM_STEP_TASKS_PER_NODE" : "SLURM_TASKS_PER_NODE";
    world.local_size = count_on_node(from.needed(per_node), from.number("SLURM_NODEID", 0, kMaxRanks));
    if (world.local_size == 0 || world.local_size > world.size) {
        throw UsageError(concat(per_node, "=", from.text(per_node),
                                " in the environment: has no count of tasks for node ", from.text("SLURM_NODEID"),
                                " (SLURM_NODEID) of ", world.size,
                                " tasks; srun sets these variables, so remove what changes them"));
    }
    world.local_rank = from.number_below("SLURM_LOCALID", per_node, world.local_size);
    world.run_id = concat(from.needed("SLURM_JOB_ID"), ".", *step, ".", from.text("SLURM_RESTART_COUNT"));
    const char* const nodes = from.has("SLURM_STEP_NODELIST") ? "SLURM_STEP_NODELIST" : "SLURM_JOB_NODELIST";
    world.master_addr = from.has("MASTER_ADDR") ? from.text("MASTER_ADDR") : first_host(from.needed(nodes));
    world.master_port = from.has("MASTER_PORT") ? from.number("MASTER_PORT", 1, kMaxPort) : port_of_job(world.run_id);
    return world;
}

std::optional<World> by_launcher(const Environment& environment) {
    for (const auto find : {by_torchrun, by_mpirun, by_slurm}) {
        if (auto world = find(environment)) return world;
    }
    return std::nullopt;
}

World by_options(const LaunchOptions& o, const Environment& environment) {
    const Variables from(environment, "-pn");
    World world{.launcher = from.launcher()};
    world.size = o.processes;
    world.rank = o.rank;
    world.local_rank = o.rank % o.per_node;
    world.local_size = std::min(o.per_node, o.processes - (o.rank - world.local_rank));
    world.master_addr = from.text("MASTER_ADDR");
    world.master_port = from.has("MASTER_PORT") ? from.number("MASTER_PORT", 1, kMaxPort) : kDefaultPort;
    return world;
}

// HOST, HOST:PORT, [ADDRESS]:PORT or an IPv6 address.
void set_server(World& world, const std::string& text) {
    const size_t colon = text.rfind(':');
    const bool bracketed = text.starts_with('[');
    const bool has_port =
        bracketed ? text.find("]:") != std::string::npos : colon != std::string::npos && text.find(':') == colon;
    world.master_addr = has_port ? text.substr(0, colon) : text;
    if (bracketed && world.master_addr.ends_with(']')) {
        world.master_addr = world.master_addr.substr(1, world.master_addr.size() - 2);
    }
    const auto port = has_port ? parse_int(std::string_view(text).substr(colon + 1)) : kDefaultPort;
    if (!port || *port < 1 || *port > kMaxPort || world.master_addr.empty()) {
        throw UsageError(
            concat("--server-ip (-ps) ", text, ": is neither HOST nor HOST:PORT with a port in [1, ", kMaxPort, "]"));
    }
    world.master_port = int(*port);
}

}  // namespace

Environment this_environment() {
    Environment all;
    for (char** entry = environ; *entry; entry++) {
        const std::string_view text(*entry);
        const size_t equals = text.find('=');
        if (equals != std::string_view::npos) all.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
    return all;
}

bool World::on_one_host() const {
    return shared_directory.empty() && (master_addr.starts_with("127.") || master_addr == "localhost");
}

int ranks_to_start(const LaunchOptions& o, const Environment& environment, const std::function<int()>& devices) {
    if (o.gpus.empty()) return 1;
    const auto wanted = parse_int(o.gpus);
    if (o.gpus != "all" && (!wanted || *wanted < 1 || *wanted > kMaxRanks)) {
        throw UsageError(concat("--gpus ", o.gpus, ": is neither all nor a whole number in [1, ", kMaxRanks, "]"));
    }
    if (const auto world = by_launcher(environment); world && world->size > 1) {
        throw UsageError(concat("--gpus ", o.gpus, ": ", world->launcher, " has already started ", world->size,
                                " processes; leave --gpus out"));
    }
    if (wanted == 1) return 1;
    const int there = devices();
    if (wanted && *wanted > there) {
        throw UsageError(concat("--gpus ", *wanted, ": this machine has ", there, there == 1 ? " GPU" : " GPUs",
                                " that can be used; give a smaller number, or check nvidia-smi -L and "
                                "CUDA_VISIBLE_DEVICES"));
    }
    return wanted ? int(*wanted) : std::max(there, 1);
}

World find_world(const LaunchOptions& o, const Environment& environment) {
    const bool several = o.processes > 1;
    if (o.rank >= o.processes) {
        throw UsageError(concat("--process-rank (-pr) ", o.rank, ": must be less than --num-processes (-pn), which is ",
                                o.processes));
    }
    if (several && !o.gpus.empty()) {
        throw UsageError("--gpus starts the processes itself; leave out --num-processes (-pn), or --gpus");
    }
    const bool any = o.method == "auto";
    const bool shared = o.method == "fs" || (any && o.server.empty() && !o.shared_path.empty());
    const bool by_number = several && (o.method == "tcp" || shared || (any && !o.server.empty()));
    std::optional<World> found = by_number ? by_options(o, environment) : by_launcher(environment);
    if (several && !found) {
        throw UsageError(
            concat("--num-processes (-pn) ", o.processes,
                   ": say how the processes find each other: -pi tcp -ps HOST, with the host of rank 0, or "
                   "-pi fs -pf DIR, with a directory that all share, and -pr with the rank of each; ",
                   "--gpus N starts N processes on this machine"));
    }
    if (several && found->size != o.processes) {
        throw UsageError(concat("--num-processes (-pn) ", o.processes, ": ", found->launcher, " has started ",
                                found->size, " processes; leave -pn out"));
    }
    if (!found || found->size == 1) return {};

    World& world = *found;
    if (shared && world.launcher != "--gpus") {
        world.shared_directory = o.shared_path.empty() ? "/tmp" : o.shared_path;  // llm.c's
        return world;
    }
    if (!o.server.empty() && world.launcher != "--gpus") set_server(world, o.server);
    if (world.master_addr.empty() && world.launcher == "mpirun" && world.local_size == world.size) {
        world.master_addr = kLoopback;
    }
    if (world.launcher == "srun" && world.local_size == world.size && o.server.empty()) world.master_addr = kLoopback;
    return world;
}

void check_master(const World& world) {
    if (world.size == 1 || !world.shared_directory.empty() || (!world.master_addr.empty() && world.master_port != 0))
        return;
    throw UsageError(concat("the ", world.size, " processes of ", world.launcher, " do not know where rank 0 is: set ",
                            world.master_addr.empty() ? "MASTER_ADDR" : "MASTER_PORT",
                            world.launcher == "mpirun" ? " (mpirun -x MASTER_ADDR=HOST)" : " in the environment",
                            ", or give --server-ip (-ps) HOST:PORT"));
}

std::string own_gpu(const World& world, const Environment& environment) {
    if (world.size == 1) return "";
    const auto found = environment.find("CUDA_VISIBLE_DEVICES");
    if (found == environment.end()) return std::to_string(world.local_rank);
    std::vector<std::string_view> devices;
    for (std::string_view rest = found->second; !rest.empty();) {
        devices.push_back(rest.substr(0, rest.find(',')));
        rest.remove_prefix(std::min(rest.size(), devices.back().size() + 1));
    }
    if (devices.size() <= 1) return "";
    if (size_t(world.local_rank) >= devices.size()) {
        throw UsageError(concat("CUDA_VISIBLE_DEVICES=", found->second, " in the environment: has ", devices.size(),
                                " GPUs, but this host has ", world.local_size, " ranks; start one rank for each GPU"));
    }
    return std::string(devices[size_t(world.local_rank)]);
}

}  // namespace kiln
