// The scripts of dev/. dev/run_tests.sh must report every failure of a test binary, however the binary ends.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/process.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

class RunTests : public testing::Test {
protected:
    RunTests() { unsetenv("REUSE"); }  // .ci/run sets it
    // A shell script in place of a test binary.
    fs::path binary(const std::string& name, const std::string& body) {
        const fs::path path = directory_.write(name, "#!/bin/bash\n" + body + "\n");
        fs::permissions(path, fs::perms::owner_all);
        return path;
    }

    Finished run(const fs::path& second) {
        return run_program("dev/run_tests.sh", {binary("good", "echo '[  PASSED  ] 3 tests.'"), second});
    }

    TempDirectory directory_;
};

TEST_F(RunTests, binaries_that_pass_are_summed_up) {
    const Finished result = run(binary("other", "echo '[  PASSED  ] 2 tests.'"));
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_NE(result.out.find("5 passed, 0 failed, 0 skipped"), std::string::npos) << result.out;
}

TEST_F(RunTests, a_binary_that_measures_runs_after_the_others) {
    // The path of the first one is that of a test that says "// Runs alone".
    const std::string running = directory_.path() / "running";
    const fs::path alone =
        binary("tests/cuda/bench/step_test", "sleep 0.3; [ -e " + running + " ] || echo '[  PASSED  ] 1 test.'");
    const fs::path other =
        binary("other", "touch " + running + "; sleep 1; rm " + running + "; echo '[  PASSED  ] 1 test.'");
    const Finished result = run_program("dev/run_tests.sh", {alone, other});
    EXPECT_EQ(result.code, 0) << result.out;
}

TEST_F(RunTests, results_are_reused_only_if_asked_for_and_nothing_changed) {
    const std::string count = directory_.path() / "count", body = "echo >>" + count + "; echo '[  PASSED  ] 2 tests.'";
    const fs::path other = binary("other", body);
    const auto runs = [&] {
        const Finished result = run_program("dev/run_tests.sh", {other});
        EXPECT_NE(result.out.find("2 passed, 0 failed, 0 skipped"), std::string::npos) << result.out;
        return std::pair(fs::file_size(count), result.out.find("reused: the results of 1 of 1") != std::string::npos);
    };
    EXPECT_EQ(runs(), std::pair(size_t(1), false));
    EXPECT_EQ(runs(), std::pair(size_t(2), false));
    setenv("REUSE", "1", 1);
    EXPECT_EQ(runs(), std::pair(size_t(2), true));
    binary("other", body);
    EXPECT_EQ(runs(), std::pair(size_t(3), false));
}

TEST(DevScripts, compile_commands_are_json) {
    const Finished result = run_program("dev/compile_commands.sh", {},
                                        "g++ -DA='\"x\"' -c -o a.o a.cpp\nld -o a a.o\n  g++ -c -o b.o b.cpp\n");
    const nlohmann::json commands = nlohmann::json::parse(result.out);
    ASSERT_EQ(commands.size(), 2u);
    EXPECT_EQ(commands[0]["command"], "g++ -DA='\"x\"' -c -o a.o a.cpp");
    EXPECT_EQ(commands[1]["file"], "b.cpp");
}

TEST(DevScripts, targets_that_need_a_gpu_say_so_before_they_compile) {
    for (const char* name : {"MAKEFLAGS", "MAKELEVEL"}) unsetenv(name);  // of the make that runs the tests
    const auto make = [](const std::vector<std::string>& args) { return run_program("/usr/bin/make", args); };
    for (const std::string target : {"profile", "bench-kernels", "bench-attention"}) {
        const Finished result = make({target, "GPU_DEVICE="});
        EXPECT_EQ(result.code, 2) << target;
        EXPECT_EQ(result.out, "") << target;
        EXPECT_TRUE(result.err.starts_with("make " + target + ": there is no NVIDIA GPU on this machine"))
            << result.err;
        EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 2) << result.err;  // and make's own line
        // Nothing is compiled for a GPU, and the program's flags reach it.
        const std::string flags = target == "profile" ? "PROFILE_FLAGS=--predict" : "BENCH_FLAGS=--help";
        const std::string planned = make({"-n", target, "GPU_DEVICE=", flags}).out;
        EXPECT_NE(planned.find("emulator/dev/bench/bench_"), std::string::npos) << planned;
        EXPECT_EQ(planned.find("gpu/dev/bench"), std::string::npos) << planned;
        EXPECT_NE(planned.find(flags.substr(flags.find("--")) + "\n"), std::string::npos) << planned;
    }
}

TEST(DevScripts, help_groups_the_targets) {
    const std::string help = run_program("/usr/bin/make", {"help"}).out;
    size_t last = 0;
    for (const char* group :
         {"\nuse: ", "  quickstart ", "\ntest: ", "  check-gpu ", "\nmeasure: ", "  bench ", "\nchange: "}) {
        const size_t at = help.find(group);
        ASSERT_NE(at, std::string::npos) << group << help;
        EXPECT_GT(at, last) << group;
        last = at;
    }
}

TEST(DevScripts, a_second_quickstart_continues_the_first_and_what_the_user_trained) {
    // One stub for both programs: it notes its call and makes what each of them would make.
    const char* const stub =
        "#!/bin/bash\necho \"$(basename $0) $*\" >>calls\n"
        "while [ $# -gt 0 ]; do case $1 in --output | -o) out=$2 ;; esac; shift; done\n"
        "[ ! \"$out\" ] || { mkdir -p $out/checkpoint-00000002; touch $out/{tokenizer,shards}.json; }\n";
    const TempDirectory directory;
    fs::create_directories(directory / "dev");
    const fs::path script = directory / "dev/quickstart.sh", run = directory / "runs/quickstart/run";
    fs::copy_file("dev/quickstart.sh", script);
    for (const char* name : {"kiln", "train_gpt2"}) {
        fs::permissions(directory.write(name, stub), fs::perms::owner_all);
    }
    const Finished first = run_program(script, {});
    ASSERT_EQ(first.code, 0) << first.err;
    EXPECT_NE(first.out.find("--resume -x 4\n"), std::string::npos) << first.out;
    EXPECT_EQ(first.out.find('\x1b'), std::string::npos) << first.out;
    EXPECT_FALSE(fs::exists(directory / "runs/quickstart.lock"));
    fs::create_directories(run / "checkpoint-00000800");  // the user trained on, as the last line says
    fs::remove(directory / "calls");
    const Finished second = run_program(script, {});
    EXPECT_EQ(second.code, 0) << second.err;
    EXPECT_NE(second.out.find("resuming the earlier quickstart in runs/quickstart"), std::string::npos) << second.out;
    EXPECT_NE(second.out.find("--resume -x 1600\n"), std::string::npos) << second.out;
    EXPECT_TRUE(fs::exists(run / "checkpoint-00000800"));
    std::ifstream calls(directory / "calls");
    std::string line;
    std::getline(calls, line);
    EXPECT_EQ(line, "train_gpt2 -o runs/quickstart/run --resume");
}

TEST_F(RunTests, skipped_tests_are_named_with_their_reasons_before_the_totals) {
    const Finished result =
        run(binary("other",
                   "echo '[ RUN      ] Gpu.adds'; echo 'a.cpp:3: Skipped'; echo 'no GPU here'; echo; "
                   "echo '[  SKIPPED ] Gpu.adds (0 ms)'; echo '[  PASSED  ] 2 tests.'; "
                   "echo '[  SKIPPED ] 1 test, listed below:'; echo '[  SKIPPED ] Gpu.adds'"));
    EXPECT_EQ(result.code, 0) << result.out;
    const std::string end = "skipped: Gpu.adds: no GPU here\n5 passed, 0 failed, 1 skipped\n";
    EXPECT_TRUE(result.out.ends_with(end)) << result.out;
}

TEST_F(RunTests, a_filter_that_matches_nothing_in_one_binary_is_no_failure) {
    EXPECT_EQ(run(binary("other", "echo '[  PASSED  ] 0 tests.'")).code, 0);
}

TEST_F(RunTests, a_binary_that_fails_dies_or_prints_nothing_is_a_failure) {
    for (const char* body : {"echo '[  PASSED  ] 2 tests.'; echo '[  FAILED  ] 1 test, listed below:'; exit 1",
                             "kill -SEGV $$", "exit 3", "exit 0"}) {
        const Finished result = run(binary("other", body));
        EXPECT_EQ(result.code, 1) << body;
        EXPECT_NE(result.out.find(" 1 failed, 0 skipped"), std::string::npos) << body << "\n" << result.out;
    }
}

// It prints them where it would print the compute capabilities.
TEST(GpuArchs, errors_of_nvidia_smi_are_no_architectures) {
    const TempDirectory directory;
    const std::string makefile = directory.write("makefile", "include Makefile\narchs: ; @: \"archs: $(GPU_ARCHS)\"\n");
    const auto archs = [&](const std::string& text) {
        const fs::path smi = directory.write("nvidia-smi", "#!/bin/sh\necho \"" + text + "\"\n");
        fs::permissions(smi, fs::perms::owner_all);
        const std::string path = "PATH=" + directory.path().string() + ":$PATH";
        return run_program("/bin/sh", {"-c", "env -u GPU_ARCHS " + path + " make -n -f " + makefile + " archs"}).out;
    };
    EXPECT_NE(archs("9.0").find("archs: 90a\""), std::string::npos) << archs("9.0");
    EXPECT_EQ(archs("No devices were found").find("devices"), std::string::npos) << archs("No devices were found");
    EXPECT_EQ(archs("it couldn't communicate").find("communicate"), std::string::npos);
}

}  // namespace
}  // namespace kiln
