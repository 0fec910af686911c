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
        binary("tests/programs/train_cli_test", "sleep 0.3; [ -e " + running + " ] || echo '[  PASSED  ] 1 test.'");
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

// dev/check_gpu.sh with scripts in place of the programs.
class CheckGpu : public RunTests {
protected:
    CheckGpu() {
        for (const char* name : {"gpu_facts", "hopper/hopper", "profile", "matmul", "kernels", "flash_attention",
                                 "flash_attention_edges", "engine", "bench/step"}) {
            test(name, "echo '[  PASSED  ] 2 tests.'");
        }
        binary("gpu/dev/bench/bench_step", "case $* in *--brief*) echo 50.0 ms 1 ;; *) echo 'Step: 50 ms.' ;; esac");
        binary("gpu/dev/bench/bench_kernels", "echo '| norm | 90 % |'");
        binary("gpu/dev/bench/bench_attention", "echo \"| 64 | forward with $PYTHON |\"");
        binary("path/nvidia-smi", "echo 'GPU 0'");
        binary("path/python3", "exit 1");
        binary("path/compute-sanitizer", "while [[ $1 != /* ]]; do shift; done; exec \"$@\"");
    }
    void test(const std::string& name, const std::string& body) {
        binary("gpu/tests/cuda/" + name + "_test",
               "case $* in *list_tests*) echo Suite.; echo '  one'; exit ;; esac\n" + body);
    }
    // A trainer with a loss that falls from `first` by 0.02 in each step. It refuses options that the real trainer
    // refuses.
    void trainer(const std::string& name, const std::string& first) {
        binary("bin/" + name, "for o; do [[ $o != --* ]] || " + program_path("train_gpt2").string() +
                                  " --help | grep -q -e \"$o\" || exit 2; done; "
                                  "while [ \"$1\" != -o ]; do shift; done; mkdir -p $2; seq 0 199 | awk '{ printf "
                                  "\"{\\\"train_loss\\\":%f,\\\"x\\\":1}\\n\", " +
                                  first + " - $1 * 0.02 }' >$2/metrics.jsonl");
    }
    Finished check(const std::string& settings = "") {
        const std::string here = directory_.path();
        return run_program("/bin/bash",
                           {"-c", "PATH=" + here + "/path:$PATH BUILD=" + here + " RESULTS=" + here +
                                      "/results PYTHON=" + here + "/path/python3 " + settings + " dev/check_gpu.sh"});
    }
};

TEST_F(CheckGpu, writes_a_row_for_each_part_with_the_reason_if_it_is_skipped) {
    const Finished result = check();
    EXPECT_EQ(result.code, 0) << result.out << result.err;
    for (const char* text :
         {"| engine tests | ok ", "2 passed", "| 200 steps compared with the CPU | skipped | 0 | no shards",
          "| GPT-2 1558M, a step | ok ", "Step: 50 ms.", "no PyTorch with CUDA", "| racecheck, kernels tests | ok "}) {
        EXPECT_NE(result.out.find(text), std::string::npos) << text << "\n" << result.out;
    }
    const Finished table = run_program("/bin/bash", {"-c", "cat " + directory_.path().string() + "/results/*-GPU.md"});
    EXPECT_NE(table.out.find("| norm | 90 % |"), std::string::npos) << table.out;
    EXPECT_NE(table.out.find("/path/python3 |\n"), std::string::npos) << table.out;
}

TEST_F(CheckGpu, a_test_that_fails_is_a_failure_and_the_rest_still_runs) {
    test("kernels", "echo wrong number; exit 1");
    const Finished result = check();
    EXPECT_EQ(result.code, 1);
    EXPECT_NE(result.out.find("| kernels tests | FAILED "), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("| engine tests | ok "), std::string::npos) << result.out;
}

TEST_F(CheckGpu, stops_when_its_time_is_up) {
    test("matmul", "sleep 60");
    const Finished result = check("CHECK_GPU_SECONDS=7");
    EXPECT_NE(result.out.find("| matmul tests | stopped "), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("| engine tests | skipped | 0 | no time left"), std::string::npos) << result.out;
}

TEST_F(CheckGpu, a_curve_that_differs_from_the_cpus_is_a_failure) {
    trainer("train_gpt2", "8");
    trainer("train_gpt2cu", "8.01");
    const Finished same = check("SHARDS=" + directory_.path().string());
    EXPECT_EQ(same.code, 0) << same.out << same.err;
    trainer("train_gpt2cu", "9");
    const Finished result = check("SHARDS=" + directory_.path().string());
    EXPECT_EQ(result.code, 1);
    EXPECT_NE(result.out.find("| 200 steps in bfloat16 | FAILED "), std::string::npos) << result.out;
}

// Five interleaved measurements of each, or fewer if PyTorch dies. PyTorch has its own libraries.
TEST_F(CheckGpu, measures_interleaved_with_pytorch_until_that_ends) {
    const std::string torch =
        "[ \"$LD_LIBRARY_PATH\" = its/own ] || exit 1; case $1 in -c) exit 0 ;; esac; echo 'PyTorch 9, mode default'; ";
    binary("path/python3", torch + "while read -r; do echo '100.0 ms 5 tokens/s'; done");
    const std::string settings = "PYTHON_LIBRARIES=its/own ";
    const Finished result = check(settings);
    EXPECT_EQ(result.code, 0) << result.out << result.err;
    const std::string row =
        "Kiln 50.0 ms, PyTorch 100.0 ms: 2.000 times as fast, medians of 5 pairs; PyTorch 9, mode default |";
    EXPECT_NE(result.out.find(row), std::string::npos) << result.out;
    binary("path/python3", torch + "read -r; echo '100.0 ms 5 tokens/s'; echo out of memory >&2");
    const Finished died = check(settings);
    EXPECT_EQ(died.code, 0) << died.out << died.err;
    EXPECT_NE(died.out.find("2.000 times as fast, medians of 1 pairs"), std::string::npos) << died.out;
    EXPECT_NE(died.out.find("| racecheck, kernels tests | ok "), std::string::npos) << died.out;
}

TEST_F(CheckGpu, a_program_that_does_not_start_is_named_with_the_reason) {
    binary("gpu/tests/cuda/matmul_test", "echo 'libm.so.6: version GLIBC_2.99 not found' >&2; exit 1");
    const Finished result = check();
    EXPECT_EQ(result.code, 1);
    EXPECT_NE(result.err.find("matmul_test lists no tests: libm.so.6: version GLIBC_2.99"), std::string::npos)
        << result.err;
}

TEST_F(CheckGpu, without_a_gpu_prints_how_many_tests_need_one) {
    binary("path/nvidia-smi", "exit 9");
    const Finished result = check();
    EXPECT_EQ(result.code, 0);
    EXPECT_EQ(result.out, "skipped: no GPU (9 tests need one)\n");
}

}  // namespace
}  // namespace kiln
