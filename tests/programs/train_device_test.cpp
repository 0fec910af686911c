// train_gpt2 refuses options that the CPU cannot do, and batches that do not fit its memory.
#include <gtest/gtest.h>

#include <sstream>

#include "cpu_reference/interface/error.h"
#include "tests/support/train_program.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

class TrainDevice : public TrainProgram {
protected:
    Args base() const {
        return {"-i", data(), "-e", "llama:layers=1,dim=16,heads=2,ctx=16", "-b", "4", "-x", "2", "--threads", "1"};
    }
    void expect_usage_error(const Args& args, const Args& parts) {
        const Finished result = train_cpu(args);
        EXPECT_EQ(result.code, 2) << result.err;
        for (const std::string& part : parts)
            EXPECT_NE(result.err.find(part), std::string::npos) << part << "\n" << result.err;
    }
};

TEST_F(TrainDevice, options_of_gpus_are_refused_by_name) {
    const char* const refused[][2] = {{"--dtype", "bfloat16"},
                                      {"--dtype", "float16"},
                                      {"-f", "1"},
                                      {"-r", "1"},
                                      {"-ge", "1"},
                                      {"--lm-head-chunks", "2"},
                                      {"-lg", "10"},
                                      {"--moment-dtype", "bfloat16"}};
    for (const auto& [option, value] : refused) {
        expect_usage_error(base() + Args{option, value},
                           {concat(" ", value, ": is not available in train_gpt2, which computes on the CPU"),
                            "leave the option out, or set it to "});
    }
    expect_usage_error(base() + Args{"-r", "4"}, {"--recompute (-r): 4 is out of range; it must lie in [0, 3]"});
    EXPECT_EQ(train_cpu(base() + Args{"--dtype", "float32", "--grad-dtype", "same", "--dry-run"}).code, 0);
}

TEST_F(TrainDevice, a_batch_that_does_not_fit_is_refused_with_one_that_fits) {
    const Args args{"-e", "gpt2", "-t", "1024", "--dry-run"};
    const Finished large = train_cpu(args + Args{"-b", "65536"});
    EXPECT_EQ(large.code, 1);
    EXPECT_NE(large.out.find("it does not fit\n"), std::string::npos) << large.out;
    const size_t at = large.err.find("\n  -b ");
    ASSERT_NE(at, std::string::npos) << large.err;
    std::istringstream advice(large.err.substr(at));
    Args fitting(4);
    for (std::string& word : fitting) advice >> word;
    EXPECT_EQ(fitting[2], "-d");
    EXPECT_EQ(fitting[3], "67108864");
    const Finished small = train_cpu(args + fitting);
    EXPECT_EQ(small.code, 0) << small.err;
    EXPECT_NE(small.out.find("it fits\n"), std::string::npos) << small.out;
}

TEST_F(TrainDevice, a_plan_takes_the_memory_of_another_machine) {
    const Finished small = train_cpu(base() + Args{"--dry-run", "--memory", "1MiB"});
    EXPECT_EQ(small.code, 1);
    EXPECT_NE(small.out.find("  free                   1048576 (1.0 MiB of this machine): it does not fit\n"),
              std::string::npos)
        << small.out;
    EXPECT_EQ(train_cpu(base() + Args{"--dry-run", "--memory", "1.5GB"}).code, 0);
    expect_usage_error(base() + Args{"--dry-run", "--memory", "16"}, {"--memory: \"16\" is not a size"});
    expect_usage_error(base() + Args{"--dry-run", "--gpu", "T4"}, {"--gpu T4: ", "use train_gpt2cu"});
    expect_usage_error(base() + Args{"--memory", "16GiB"}, {"add --dry-run"});
}

TEST_F(TrainDevice, batch_size_auto_divides_the_total_batch_and_is_saved_in_the_config) {
    const Finished result = train_cpu(base() + Args{"-b", "auto", "-d", "96", "-o", run()});
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_NE(result.err.find("--batch-size auto: sequences in a micro-batch: 6\n"), std::string::npos) << result.err;
    EXPECT_NE(read_file(run() / "config.toml").find("batch-size = 6\n"), std::string::npos);
    expect_usage_error(base() + Args{"-b", "auto", "-d", "100"}, {"--total-batch-size (-d) 100", "use 96 or 112"});
    const Finished printed = train_cpu({"-b", "auto", "--print-config"});
    EXPECT_NE(printed.out.find("batch-size = \"auto\"\n"), std::string::npos) << printed.out;
    const fs::path file = directory_.write("auto.toml", printed.out);
    EXPECT_EQ(train_cpu({"--config", file, "--print-config"}).out, printed.out);
}

}  // namespace
}  // namespace kiln
