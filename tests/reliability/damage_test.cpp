// Flipped bits and cut files: each is noticed, the message names the file, and a run falls back to the checkpoint
// before.
#include <gtest/gtest.h>

#include <fstream>
#include <random>

#include "tests/reliability/series.h"
#include "tests/support/fake_engine.h"
#include "tests/support/tiny_run.h"
#include "tokenizer/data/shard.h"
#include "tokenizer/io/file.h"
#include "tools/checkpoint/checkpoint.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

// Flips a bit of a random file, or, every fifth time, cuts it; then check() must return a message that names the file.
void damage(const std::string& name, const std::vector<fs::path>& files, const std::function<std::string()>& check) {
    Series series(name);
    std::mt19937 random(1);
    ASSERT_EQ(check(), "");
    for (int i = 0; i < short_or_long(100, 5000); i++) {
        const fs::path& file = files[random() % files.size()];
        const std::string before = read_file(file);
        const size_t byte = random() % before.size();
        std::string after = before;
        const bool cut = i % 5 == 0;
        if (cut) {
            after.resize(byte);
        } else {
            after[byte] = char(after[byte] ^ 1 << random() % 8);
        }
        std::ofstream(file, std::ios::binary) << after;
        series.add(concat(file.filename().string(), cut ? " cut to " : " flipped in byte ", byte), [&] {
            const std::string message = check();
            return message.find(file.filename()) == message.npos ? "not noticed, or not named: " + message : "";
        });
        std::ofstream(file, std::ios::binary) << before;
    }
    EXPECT_EQ(check(), "");
}

TEST(Damage, of_any_file_of_a_checkpoint_is_noticed_and_it_is_passed_over) {
    TinyRun run;
    const auto engine = make_engine(run.config, {.B = 1, .T = 1});
    const fs::path newest = save_checkpoint(run.run(), 11, *engine, {{"step", 11}}, ModelFiles(run.data(), {}));
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(newest)) files.push_back(entry.path());
    std::ranges::sort(files);
    damage("damaged checkpoint", files, [&] {
        std::string reports;
        const auto found = newest_checkpoint(run.run(), [&](const std::string& why) { reports += why; });
        if (!found) return "no checkpoint is found; " + reports;
        return (found->step == 11) == reports.empty() ? reports
                                                      : "another checkpoint without a report, or a report without one";
    });
}

TEST(Damage, of_a_shard_is_noticed) {
    const TempDirectory directory;
    std::mt19937 random(2);
    std::vector<int> tokens(2000);
    for (int& token : tokens) token = int(random() % 500);
    const fs::path shard = directory / "train_000000.bin";
    write_shard(shard, tokens, {.vocab_size = 500, .num_documents = 5, .count = 1});
    damage("damaged shard", {shard}, [&] { return error_of([&] { Shard(shard).verify(); }); });
}

}  // namespace
}  // namespace kiln
