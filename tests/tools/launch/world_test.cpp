// Who a process is, from its options and its environment.
#include "tools/launch/world.h"

#include <gtest/gtest.h>

#include "cpu_reference/interface/error.h"
#include "tests/support/temp_directory.h"

namespace kiln {
namespace {

Environment operator+(Environment a, const Environment& b) {
    for (const auto& [name, value] : b) a[name] = value;
    return a;
}

const Environment kTorchrun = {{"RANK", "5"},
                               {"WORLD_SIZE", "8"},
                               {"LOCAL_RANK", "1"},
                               {"LOCAL_WORLD_SIZE", "4"},
                               {"MASTER_ADDR", "node1"},
                               {"MASTER_PORT", "29500"}};
const Environment kMpirun = {{"OMPI_COMM_WORLD_RANK", "1"},
                             {"OMPI_COMM_WORLD_SIZE", "2"},
                             {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                             {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                             {"PMIX_NAMESPACE", "3281321985"}};
const Environment kSrun = {{"SLURM_STEP_ID", "0"},
                           {"SLURM_PROCID", "5"},
                           {"SLURM_NTASKS", "7"},
                           {"SLURM_STEP_NUM_TASKS", "7"},
                           {"SLURM_LOCALID", "1"},
                           {"SLURM_NODEID", "1"},
                           {"SLURM_STEP_TASKS_PER_NODE", "4,3"},
                           {"SLURM_JOB_ID", "4711"},
                           {"SLURM_STEP_NODELIST", "gpu[03-04]"}};

struct Case {
    const char* name;
    LaunchOptions options;
    Environment environment;
    World wanted;
};

LaunchOptions tcp(int processes, int rank, const std::string& server, int per_node = 8) {
    return {.processes = processes, .rank = rank, .per_node = per_node, .method = "tcp", .server = server};
}

TEST(World, is_read_from_options_and_environments_in_their_order) {
    const Case cases[] = {
        {"nothing", {}, {}, {}},
        {"llm.c's defaults", {.method = "mpi", .server = "x", .shared_path = "/tmp"}, {}, {}},
        {"torchrun", {}, kTorchrun, {5, 8, 1, 4, "torchrun", "node1", 29500}},
        {"torchrun's own server has the port",
         {},
         kTorchrun + Environment{{"TORCHELASTIC_USE_AGENT_STORE", "True"}},
         {5, 8, 1, 4, "torchrun", "node1", 29501}},
        {"torchrun with one process", {}, {{"RANK", "0"}, {"WORLD_SIZE", "1"}}, {}},
        {"-ps with torchrun", {.server = "10.0.0.1:7"}, kTorchrun, {5, 8, 1, 4, "torchrun", "10.0.0.1", 7}},
        {"mpirun on one host", {}, kMpirun, {1, 2, 1, 2, "mpirun", "127.0.0.1", 23880}},
        {"mpirun with -pi mpi and -pn",
         {.processes = 2, .method = "mpi"},
         kMpirun,
         {1, 2, 1, 2, "mpirun", "127.0.0.1", 23880}},
        {"srun", {}, kSrun, {5, 7, 1, 3, "srun", "gpu03", 15000}},
        {"srun on one host",
         {},
         kSrun + Environment{{"SLURM_NODEID", "0"}, {"SLURM_STEP_TASKS_PER_NODE", "7"}},
         {5, 7, 1, 7, "srun", "127.0.0.1", 15000}},
        {"srun that starts torchrun", {}, kSrun + kTorchrun, {5, 8, 1, 4, "torchrun", "node1", 29500}},
        // What a plain ./train_gpt2cu sees within sbatch, and in salloc's shell.
        {"sbatch's script", {}, {{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}, {"SLURM_JOB_ID", "1"}}, {}},
        {"salloc's shell", {}, kSrun + Environment{{"SLURM_STEP_ID", "4294967290"}, {"SLURM_PROCID", "0"}}, {}},
        {"a step of one task", {}, kSrun + Environment{{"SLURM_STEP_NUM_TASKS", "1"}}, {}},
        {"-pn before all others", tcp(16, 13, "node7", 4), kTorchrun, {13, 16, 1, 4, "-pn", "node7", 12345}},
        {"-pn on a last node that is not full", tcp(6, 5, "::1", 4), {}, {5, 6, 1, 2, "-pn", "::1", 12345}},
        {"-ps alone says tcp", {.processes = 2, .server = "[::1]:80"}, {}, {0, 2, 0, 2, "-pn", "::1", 80}},
        {"-pi fs", {.processes = 2, .rank = 1, .method = "fs"}, {}, {1, 2, 1, 2, "-pn", "", 0, "/tmp"}},
        {"-pf alone says fs", {.processes = 2, .shared_path = "/x"}, {}, {0, 2, 0, 2, "-pn", "", 0, "/x"}},
        {"-pf with mpirun", {.shared_path = "/x"}, kMpirun, {1, 2, 1, 2, "mpirun", "", 23880, "/x"}},
    };
    for (const Case& c : cases) {
        const World w = find_world(c.options, c.environment);
        EXPECT_EQ(w.rank, c.wanted.rank) << c.name;
        EXPECT_EQ(w.size, c.wanted.size) << c.name;
        EXPECT_EQ(w.local_rank, c.wanted.local_rank) << c.name;
        EXPECT_EQ(w.local_size, c.wanted.local_size) << c.name;
        EXPECT_EQ(w.launcher, c.wanted.launcher) << c.name;
        EXPECT_EQ(w.shared_directory, c.wanted.shared_directory) << c.name;
        if (!w.shared_directory.empty()) continue;
        EXPECT_EQ(w.master_addr, c.wanted.master_addr) << c.name;
        if (w.launcher == "mpirun" || w.launcher == "srun") {
            EXPECT_GE(w.master_port, 15000) << c.name;
            EXPECT_LT(w.master_port, 30000) << c.name;
        } else {
            EXPECT_EQ(w.master_port, c.wanted.master_port) << c.name;
        }
        EXPECT_EQ(error_of([&] { check_master(w); }), "") << c.name;
    }
}

// All ranks of a step choose the same port and id, and the next step others.
TEST(World, of_one_slurm_step_has_one_port_and_id) {
    const World one = find_world({}, kSrun);
    const World other =
        find_world({}, kSrun + Environment{{"SLURM_PROCID", "0"}, {"SLURM_NODEID", "0"}, {"SLURM_LOCALID", "0"}});
    const World next = find_world({}, kSrun + Environment{{"SLURM_STEP_ID", "1"}});
    EXPECT_EQ(one.master_port, other.master_port);
    EXPECT_EQ(one.run_id, other.run_id);
    EXPECT_NE(one.run_id, next.run_id);
}

TEST(World, the_first_host_of_slurms_lists_is_found) {
    const std::pair<const char*, const char*> lists[] = {
        {"gpu03", "gpu03"},     {"gpu03,gpu04", "gpu03"},         {"gpu[03-10,12]", "gpu03"},
        {"gpu[7,9],b", "gpu7"}, {"r[0-1]n[2-3]-ib,x", "r0n2-ib"}, {"gpu[", "gpu"},
    };
    for (const auto& [list, host] : lists) {
        EXPECT_EQ(find_world({}, kSrun + Environment{{"SLURM_STEP_NODELIST", list}}).master_addr, host) << list;
    }
}

TEST(World, tasks_of_each_slurm_node_are_counted) {
    const std::tuple<const char*, const char*, int> counts[] = {
        {"2(x3),1", "2", 2}, {"2(x3),1", "0", 2}, {"2,2,3", "2", 3}, {"7", "0", 7}};
    for (const auto& [text, node, count] : counts) {
        const Environment with{{"SLURM_STEP_TASKS_PER_NODE", text}, {"SLURM_NODEID", node}};
        EXPECT_EQ(find_world({}, kSrun + with).local_size, count) << text << " " << node;
    }
}

TEST(World, what_is_missing_or_wrong_is_named) {
    const struct {
        LaunchOptions options;
        Environment environment;
        const char* message;
    } cases[] = {
        {{}, {{"RANK", "1"}}, "WORLD_SIZE is missing in the environment, although torchrun's other variables"},
        {{}, {{"WORLD_SIZE", "2"}}, "RANK is missing"},
        {{},
         kTorchrun + Environment{{"RANK", "8"}},
         "RANK=8 in the environment: must be less than WORLD_SIZE, which is 8"},
        {{}, kTorchrun + Environment{{"RANK", "-1"}}, "RANK=-1 in the environment: is not a whole number in [0, 4095]"},
        {{}, kTorchrun + Environment{{"RANK", "1x"}}, "RANK=1x in the environment"},
        {{}, kTorchrun + Environment{{"WORLD_SIZE", "99999999999999999999"}}, "WORLD_SIZE=99999999999999999999"},
        {{},
         kTorchrun + Environment{{"LOCAL_RANK", "4"}},
         "LOCAL_RANK=4 in the environment: must be less than LOCAL_WORLD_SIZE"},
        {{}, kTorchrun + Environment{{"LOCAL_RANK", ""}}, "LOCAL_RANK is missing"},
        {{},
         kTorchrun + Environment{{"LOCAL_WORLD_SIZE", "9"}},
         "LOCAL_WORLD_SIZE=9 in the environment: is not a whole number in [1, 8]"},
        {{}, kTorchrun + Environment{{"MASTER_PORT", "0"}}, "MASTER_PORT=0 in the environment"},
        {{}, kTorchrun + Environment{{"MASTER_PORT", "65536"}}, "MASTER_PORT=65536 in the environment"},
        {{}, kTorchrun + Environment{{"MASTER_ADDR", ""}}, "do not know where rank 0 is: set MASTER_ADDR"},
        {{}, kTorchrun + Environment{{"MASTER_PORT", ""}}, "do not know where rank 0 is: set MASTER_PORT"},
        {{}, kMpirun + Environment{{"OMPI_COMM_WORLD_RANK", "2"}}, "OMPI_COMM_WORLD_RANK=2"},
        {{},
         kMpirun + Environment{{"OMPI_COMM_WORLD_LOCAL_SIZE", "1"}, {"OMPI_COMM_WORLD_LOCAL_RANK", "0"}},
         "mpirun -x MASTER_ADDR=HOST"},
        {{},
         kSrun + Environment{{"SLURM_PROCID", "7"}},
         "SLURM_PROCID=7 in the environment: must be less than SLURM_STEP_NUM_TASKS, which is 7"},
        {{}, kSrun + Environment{{"SLURM_LOCALID", "3"}}, "SLURM_LOCALID=3"},
        {{},
         kSrun + Environment{{"SLURM_NODEID", "2"}},
         "SLURM_STEP_TASKS_PER_NODE=4,3 in the environment: has no count of tasks for node 2"},
        {{}, kSrun + Environment{{"SLURM_STEP_TASKS_PER_NODE", "4(x,3"}}, "SLURM_STEP_TASKS_PER_NODE=4(x,3"},
        {{.processes = 2}, {}, "--num-processes (-pn) 2: say how the processes find each other"},
        {{.processes = 2, .method = "mpi"}, {}, "--num-processes (-pn) 2: say how"},
        {{.processes = 4}, kMpirun, "--num-processes (-pn) 4: mpirun has started 2"},
        {{.processes = 2, .rank = 2},
         {},
         "--process-rank (-pr) 2: must be less than --num-processes (-pn), which is 2"},
        {{.rank = 1}, {}, "--process-rank (-pr) 1"},
        {{.processes = 2, .method = "tcp"}, {}, "do not know where rank 0 is"},
        {tcp(2, 0, "host:0"), {}, "--server-ip (-ps) host:0: is neither HOST nor HOST:PORT"},
        {tcp(2, 0, "host:x"), {}, "--server-ip (-ps) host:x"},
        {tcp(2, 0, ":5"), {}, "--server-ip (-ps) :5"},
        {{.gpus = "2", .processes = 2}, {}, "--gpus starts the processes itself"},
    };
    for (const auto& c : cases) {
        const std::string error = error_of([&] { check_master(find_world(c.options, c.environment)); });
        EXPECT_NE(error.find(c.message), std::string::npos) << c.message << "\n" << error;
    }
}

TEST(World, of_a_supervisor_is_what_it_says) {
    const Environment supervised = kTorchrun + Environment{{"RANK", "0"},
                                                           {"LOCAL_RANK", "0"},
                                                           {"WORLD_SIZE", "4"},
                                                           {kSupervisorVariable, "abc"},
                                                           {kListenVariable, "5"}};
    const World world = find_world({.gpus = "4", .server = "x"}, supervised);
    EXPECT_EQ(world.launcher, "--gpus");
    EXPECT_EQ(world.master_addr, "node1");
    EXPECT_EQ(world.run_id, "abc");
    EXPECT_EQ(world.listen_fd, 5);
}

TEST(World, each_rank_sees_its_own_gpu) {
    const World world{.rank = 5, .size = 8, .local_rank = 1, .local_size = 4};
    EXPECT_EQ(own_gpu({}, {}), "");
    EXPECT_EQ(own_gpu(world, {}), "1");
    EXPECT_EQ(own_gpu(world, {{"CUDA_VISIBLE_DEVICES", "6,GPU-7,4,2"}}), "GPU-7");
    EXPECT_EQ(own_gpu(world, {{"CUDA_VISIBLE_DEVICES", "3"}}), "");  // Slurm gave each process its own
    const World last{.rank = 3, .size = 4, .local_rank = 3, .local_size = 4};
    const std::string error = error_of([&] { own_gpu(last, {{"CUDA_VISIBLE_DEVICES", "0,1"}}); });
    EXPECT_NE(error.find("CUDA_VISIBLE_DEVICES=0,1 in the environment: has 2 GPUs, but this host has 4 ranks"),
              std::string::npos)
        << error;
}

TEST(World, gpus_to_start_are_counted) {
    const auto start = [](const std::string& gpus, int devices) {
        return ranks_to_start({.gpus = gpus}, {}, [=] { return devices; });
    };
    EXPECT_EQ(start("", 8), 1);
    EXPECT_EQ(start("1", 0), 1);
    EXPECT_EQ(start("2", 8), 2);
    EXPECT_EQ(start("all", 8), 8);
    EXPECT_EQ(start("all", 0), 1);  // the program then says what is missing
    for (const char* wrong : {"0", "-1", "two", "4097", "2 "}) {
        EXPECT_NE(error_of([&] { start(wrong, 8); }).find(concat("--gpus ", wrong, ": is neither")), std::string::npos);
    }
    EXPECT_NE(error_of([&] {
                  ranks_to_start({.gpus = "2"}, kTorchrun, [] { return 8; });
              }).find("--gpus 2: torchrun has already started 8 processes"),
              std::string::npos);
    EXPECT_NE(error_of([&] { start("4", 2); }).find("--gpus 4: this machine has 2 GPUs"), std::string::npos);
}

}  // namespace
}  // namespace kiln
