// Kills a process that saves checkpoints with SIGKILL at random moments. The next process must find a complete
// checkpoint that is not older than the last finished save, and every directory with a checkpoint's name must be
// complete.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <random>
#include <thread>

#include "tests/support/fake_engine.h"
#include "tests/support/temp_directory.h"
#include "tokenizer/io/file.h"
#include "tools/checkpoint/checkpoint.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

const ModelConfig& model() {
    static const ModelConfig config = parse_model("llama:layers=2,dim=64,heads=4,ffn=128,vocab=500,ctx=32");
    return config;
}

// "Training": the weights and the optimizer state are a function of the step.
FakeEngine state_of(int64_t step) {
    FakeEngine engine(model());
    engine.fill(float(step % 1000));
    return engine;
}

// From the child to its parent: a save begins, or it is done.
struct Message {
    int64_t step;
    bool done;
};

int64_t saved_step(const fs::path& checkpoint) {
    return nlohmann::json::parse(read_file(checkpoint / "trainer_state.json")).at("step");
}

// Resumes, then saves every step without end. The exit code says what failed.
[[noreturn]] void run_child(const fs::path& run, int pipe) {
    try {
        FakeEngine engine(model());
        const auto newest = newest_checkpoint(run, nullptr);
        // It saves the resumed step again, so that some kills happen while a checkpoint is replaced.
        int64_t step = newest ? newest->step : 0;
        if (newest) load_training_state(newest->directory, engine);
        if (newest && saved_step(newest->directory) != step) _exit(3);
        prune_checkpoints(run, 2, 0);
        for (;; step++) {
            const FakeEngine now = state_of(step);
            const Message begins{step, false}, done{step, true};
            if (write(pipe, &begins, sizeof(begins)) != sizeof(begins)) _exit(4);
            save_checkpoint(run, step, now, {{"step", step}}, {});
            if (write(pipe, &done, sizeof(done)) != sizeof(done)) _exit(4);
            prune_checkpoints(run, 2, 0);
        }
    } catch (...) {
        _exit(5);
    }
}

struct Killed {
    std::optional<int64_t> last_done;
    bool during_save = false;
    int status = 0;
};

Killed run_and_kill(const fs::path& run, std::chrono::microseconds delay) {
    int ends[2];
    if (pipe(ends) != 0) throw std::runtime_error("pipe failed");
    const pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        run_child(run, ends[1]);
    }
    close(ends[1]);
    Killed killed;
    Message message{};
    // The delay starts with the first save, so that a slow machine kills at the same places.
    bool alive = read(ends[0], &message, sizeof(message)) == sizeof(message);
    killed.during_save = alive;
    std::this_thread::sleep_for(delay);
    kill(child, SIGKILL);
    waitpid(child, &killed.status, 0);
    while (read(ends[0], &message, sizeof(message)) == sizeof(message)) {
        killed.during_save = !message.done;
        if (message.done) killed.last_done = message.step;
    }
    close(ends[0]);
    return killed;
}

TEST(Kill, a_run_killed_at_random_resumes_from_a_whole_checkpoint_every_time) {
    const TempDirectory directory;
    const fs::path run = directory / "run";
    std::mt19937 random(20);
    // The kills are within the first four saves, also on a slow disk.
    const auto start = std::chrono::steady_clock::now();
    save_checkpoint(directory / "trial", 0, state_of(0), {}, {});
    const double save_us = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
    std::uniform_real_distribution<double> delay_us(0, 4 * save_us);
    int64_t at_least = -1, newest_step = -1;
    int during_saves = 0;
    constexpr int kKills = 50;
    for (int i = 0; i < kKills; i++) {
        const Killed killed = run_and_kill(run, std::chrono::microseconds(int64_t(delay_us(random))));
        ASSERT_TRUE(WIFSIGNALED(killed.status)) << "the child ended by itself, status " << killed.status;
        during_saves += killed.during_save;
        if (killed.last_done) at_least = *killed.last_done;

        std::vector<std::string> reports;
        const auto newest = newest_checkpoint(run, [&](const std::string& why) { reports.push_back(why); });
        EXPECT_TRUE(reports.empty()) << reports[0];
        if (at_least < 0 && !newest) continue;  // killed before the first save was done
        ASSERT_TRUE(newest) << "after " << i << " kills; step " << at_least << " was saved";
        EXPECT_GE(newest->step, at_least);
        newest_step = newest->step;
        FakeEngine engine(model());
        load_training_state(newest->directory, engine);
        EXPECT_EQ(saved_step(newest->directory), newest->step);
        FakeEngine expected = state_of(newest->step);
        for (const Arena& arena : FakeEngine::saved()) {
            ASSERT_EQ(engine.arena(arena), expected.arena(arena)) << "step " << newest->step;
        }
    }
    EXPECT_GT(during_saves, kKills / 2);
    EXPECT_GT(newest_step, 5) << "hardly any save was ever done: the kills tested little";
    prune_checkpoints(run, 1, 0);
    EXPECT_EQ(std::distance(fs::directory_iterator(run), fs::directory_iterator()), 1);
    RecordProperty("during_saves", during_saves);
    RecordProperty("newest_step", int(newest_step));
}

}  // namespace
}  // namespace kiln
