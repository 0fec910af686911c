// Training with flash attention compared with the plain attention: train_gpt2cu on the emulator.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/support/emulated_programs.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

// Most tokens repeat the token five places before them, so attention has to find it.
void write_repeating_shards(const fs::path& directory) {
    fs::create_directories(directory);
    const auto write = [&](const std::string& name, size_t n, uint64_t seed) {
        std::vector<int> tokens;
        for (size_t i = 0; i < n; i++) {
            const Philox4 words = philox4x32(seed, uint32_t(i), 0, 0, 0);
            const bool repeats = i >= 5 && uniform01(words.v[0]) < 0.95;
            tokens.push_back(repeats ? tokens[i - 5] : int(words.v[1] % MarkovChain::kVocabulary));
        }
        ShardInfo info;
        info.vocab_size = MarkovChain::kVocabulary;
        write_shard(directory / name, tokens, info);
    };
    write("train_000.bin", 40000, 1);
    write("val_000.bin", 1000, 2);
}

class TrainAttention : public TrainProgram {
protected:
    TrainAttention() { write_repeating_shards(shards()); }
    fs::path shards() const { return directory_ / "repeating"; }
    Args args(const std::string& model) const {
        return {"-i", shards(), "-e", model, "-k", "constant", "-v", "0", "-n", "0", "--threads", "1"};
    }
    std::vector<double> curve(const Args& options) {
        const Finished finished = train_cu(options + Args{"-o", run()});
        EXPECT_EQ(finished.code, 0) << finished.err;
        std::istringstream lines(read_file(run() / "metrics.jsonl"));
        std::vector<double> losses;
        for (std::string line; std::getline(lines, line);) {
            losses.push_back(nlohmann::json::parse(line)["train_loss"].get<double>());
        }
        fs::remove_all(run());
        return losses;
    }
};

double distance(const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return std::sqrt(sum / double(a.size()));
}

// The run starts when attention begins to find the token and ends when half of the loss is gone. The learning rate is
// so low that differences from rounding do not grow. The distance between the loss curves of the plain attention and of
// float32 is the noise. An error of attention would move the point at which the loss falls.
TEST_F(TrainAttention, flash_gives_the_plain_curve_within_its_noise) {
    const fs::path begun = directory_ / "begun";
    const Finished finished =
        train_cpu(args("gpt2:layers=1,dim=32,heads=1,ctx=32") + Args{"-b", "8", "-l", "0.01", "-x", "20", "-o", begun});
    ASSERT_EQ(finished.code, 0) << finished.err;
    const Args options = args(begun) + Args{"-b", "2", "-l", "0.001", "-x", "200"};
    const std::vector<double> exact = curve(options + Args{"--dtype", "float32"});
    ASSERT_EQ(exact.size(), 200u);
    EXPECT_LT(exact[199], 0.75 * exact[0]);
    for (const char* dtype : {"bfloat16", "float16"}) {
        const std::vector<double> plain = curve(options + Args{"--dtype", dtype, "--attention", "plain"});
        const std::vector<double> flash = curve(options + Args{"--dtype", dtype, "--attention", "flash"});
        EXPECT_NE(plain, flash) << dtype;
        EXPECT_LE(distance(flash, exact), 2 * distance(plain, exact)) << dtype;
    }
}

}  // namespace
}  // namespace kiln
