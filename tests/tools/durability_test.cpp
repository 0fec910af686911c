// The order in which a save reaches the disk. A power cut may undo what is not synced: a name, or the bytes of a file.
// The functions below stand in for those of the C library, also within the C++ library, and record their calls.
#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <sstream>
#include <utility>

#include "tests/support/fake_engine.h"
#include "tests/support/temp_directory.h"
#include "tests/support/train_run.h"
#include "tools/checkpoint/links.h"

namespace {

std::vector<std::string>* calls = nullptr;  // "sync PATH", "rename FROM TO", "remove NAME"; null: not recorded
bool exchanges = true;                      // the file system can exchange two names
const char* failing = nullptr;              // calls with this text fail
bool takes_nothing = false;                 // the next write

// False: the call must fail.
bool record(const std::string& call) {
    if (calls) calls->push_back(call);
    if (!failing || (call + "\n").find(failing) == std::string::npos) return true;
    errno = EIO;
    return false;
}

template <class Function>
Function* original(Function*, const char* name) {
    return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

int fsync(int fd) {
    char path[4096] = {};
    if (readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path, sizeof(path) - 1) > 0 &&
        !record(std::string("sync ") + path)) {
        return -1;
    }
    return original(&fsync, "fsync")(fd);
}

ssize_t write(int fd, const void* data, size_t bytes) {
    if (std::exchange(takes_nothing, false)) return 0;
    char path[4096] = {};
    if (failing && readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path, sizeof(path) - 1) > 0 &&
        !record(std::string("write ") + path)) {
        return -1;
    }
    return original(&write, "write")(fd, data, bytes);
}

int rename(const char* from, const char* to) noexcept {
    if (!record(std::string("rename ") + from + " " + to)) return -1;
    return original(&rename, "rename")(from, to);
}

int renameat2(int from_fd, const char* from, int to_fd, const char* to, unsigned flags) noexcept {
    if (!exchanges) return errno = EINVAL, -1;
    record(std::string("rename ") + from + " " + to);
    return original(&renameat2, "renameat2")(from_fd, from, to_fd, to, flags);
}

int unlinkat(int fd, const char* path, int flags) noexcept {
    if (!record(std::string("remove ") + path)) return -1;
    return original(&unlinkat, "unlinkat")(fd, path, flags);
}

}  // extern "C"

namespace kiln {
namespace {

namespace fs = std::filesystem;

class Durability : public testing::Test {
protected:
    Durability() { calls = &calls_; }
    ~Durability() override {
        calls = nullptr;
        exchanges = true;
        failing = nullptr;
    }
    void save(int64_t step, float weights = 0) {
        FakeEngine engine(parse_model("llama:layers=1,dim=8,heads=2,kv_heads=1,ffn=12,vocab=11,ctx=16"));
        engine.fill(weights);
        save_checkpoint(run_, step, engine, {{"step", step}}, {});
    }
    // The number of the first call from `from` on that contains `text`; fails if there is none.
    size_t find(const std::string& text, size_t from = 0) const {
        for (size_t i = from; i < calls_.size(); i++) {
            if ((calls_[i] + "\n").find(text) != std::string::npos) return i;
        }
        ADD_FAILURE() << "no call: " << text << " from call " << from << " on: " << testing::PrintToString(calls_);
        return calls_.size();
    }
    size_t count(const std::string& text) const {
        return size_t(std::ranges::count_if(calls_, [&](const std::string& call) { return call.starts_with(text); }));
    }

    std::vector<std::string> calls_;
    TempDirectory directory_;
    const fs::path run_ = directory_ / "a/b/run";
};

TEST_F(Durability, every_created_level_of_a_run_directory_is_synced_in_its_parent) {
    EXPECT_EQ(make_directories(run_), (std::vector<fs::path>{run_, directory_ / "a/b", directory_ / "a"}));
    EXPECT_EQ(calls_, (std::vector<std::string>{concat("sync ", directory_.path().string()),
                                                concat("sync ", (directory_ / "a").string()),
                                                concat("sync ", (directory_ / "a/b").string())}));
    EXPECT_TRUE(make_directories(run_.string() + "/").empty());
    EXPECT_EQ(calls_.size(), 3u);
}

TEST_F(Durability, all_files_and_then_the_manifest_are_synced_before_the_checkpoint_gets_its_name) {
    save(1);
    const size_t named = find("rename ");
    for (const char* file : {"config.json", "trainer_state.json", "model.safetensors", "optimizer.safetensors"}) {
        EXPECT_LT(find(concat("/", file, "\n")), find("/manifest.json\n")) << file;
    }
    EXPECT_LT(find("/manifest.json\n"), find(".saving-checkpoint-00000001\n"));
    EXPECT_LT(find(".saving-checkpoint-00000001\n"), named);
    find(concat("sync ", run_.string(), "\n"), named);
}

TEST_F(Durability, a_replaced_checkpoint_is_removed_after_the_new_one_is_on_the_disk) {
    for (const bool exchange : {true, false}) {
        exchanges = exchange;
        save(1);
        calls_.clear();
        save(1);
        const size_t named = find("checkpoint-00000001 ");
        EXPECT_LT(find(concat("sync ", run_.string(), "\n"), named), find("remove ")) << exchange;
    }
}

TEST_F(Durability, a_checkpoint_is_saved_although_the_one_that_it_replaces_cannot_be_removed) {
    save(1);
    failing = "remove ";
    save(1, 7);
    EXPECT_THROW(prune_checkpoints(run_, 1, 0), Error);  // which tells of it
    failing = nullptr;
    verify_checkpoint(run_ / "checkpoint-00000001");
    prune_checkpoints(run_, 1, 0);
    EXPECT_EQ(std::distance(fs::directory_iterator(run_), fs::directory_iterator()), 1);
}

TEST_F(Durability, a_write_that_takes_nothing_is_an_error) {
    OutputFile file(directory_ / "file");
    takes_nothing = true;
    EXPECT_THROW(file.write("text"), Error);
}

TEST_F(Durability, surplus_checkpoints_lose_their_names_before_their_files) {
    for (const int64_t step : {1, 2, 3}) save(step);
    calls_.clear();
    prune_checkpoints(run_, 1, 0);
    EXPECT_EQ(count("rename "), 2u);
    EXPECT_EQ(count(concat("sync ", run_.string())), 1u);
    const size_t synced = find(concat("sync ", run_.string(), "\n"));
    EXPECT_LT(find("rename ", find("rename ") + 1), synced);
    EXPECT_LT(synced, find("remove "));
}

TEST_F(Durability, a_replaced_checkpoint_comes_back_if_the_new_name_does_not_reach_the_disk) {
    save(1);
    const std::string before = read_file(run_ / "checkpoint-00000001/manifest.json");
    failing = "/b/run\n";  // the sync of the directory
    EXPECT_THROW(save(1, 7), Error);
    failing = nullptr;
    EXPECT_EQ(read_file(run_ / "checkpoint-00000001/manifest.json"), before);
    verify_checkpoint(run_ / "checkpoint-00000001");
}

TEST_F(Durability, what_a_training_can_do_without_is_noted_once_and_the_training_goes_on) {
    write_markov_shards(directory_ / "data", 4000, 600);
    const struct {
        const char *failing, *note, *cause;
        size_t checkpoints;
    } kCases[] = {
        {"/checkpoint-00000002 ", "no removal of old checkpoints: ", "", 2},  // it is renamed before it is removed
        {"/main.log\n", "no line in the logs: ", "main.log: cannot be written: Input/output error", 1},
    };
    for (const auto& one : kCases) {
        fs::remove_all(run_);
        TrainRun run(directory_ / "data", run_);
        std::ostringstream notes;
        run.hooks.notes = &notes;
        run.options.checkpoint_every = 2;
        run.options.keep = 1;
        failing = one.failing;
        EXPECT_EQ(run.run(), TrainOutcome::finished);
        failing = nullptr;
        const size_t first = notes.str().find(one.note);
        EXPECT_NE(first, std::string::npos) << notes.str();
        EXPECT_EQ(notes.str().find(one.note, first + 1), std::string::npos) << notes.str();
        EXPECT_NE(notes.str().find(one.cause), std::string::npos) << notes.str();
        EXPECT_EQ(list_checkpoints(run_).size(), one.checkpoints);
    }
}

TEST_F(Durability, logs_are_synced_before_the_manifest_that_counts_on_them) {
    write_markov_shards(directory_ / "data", 4000, 600);
    TrainRun run(directory_ / "data", run_);
    run.options.checkpoint_every = 5;
    run.run();
    const size_t begins = find(concat("sync ", run_.string(), "\n"));  // the names of the logs
    size_t from = begins;
    for (int save = 0; save < 2; save++) {
        const size_t manifest = find("/manifest.json\n", from);
        for (const char* log : {"main.log", "metrics.jsonl"}) {
            EXPECT_LT(find(concat("sync ", (run_ / log).string(), "\n"), from), manifest);
        }
        from = manifest + 1;
    }
}

}  // namespace
}  // namespace kiln
