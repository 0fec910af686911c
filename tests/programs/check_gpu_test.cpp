// dev/check_gpu.sh with scripts in place of the programs and of nvidia-smi: what it runs and skips on several GPUs, and
// what is left of a run in which a part fails, hangs or crashes, or that is stopped.
#include <gtest/gtest.h>

#include <regex>

#include "cpu_reference/interface/error.h"
#include "tests/support/process.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

class CheckGpu : public testing::Test {
protected:
    CheckGpu() {
        for (const std::string& name : gpu_tests()) test(name, "echo '[  PASSED  ] 2 tests.'");
        for (const char* name : {"train_gpt2", "train_gpt2cu", "kiln", "kilncu"}) script(concat("bin/", name), "");
        // The memory plan of a model that needs a GiB for each sequence, and gpt2-xl 28 GiB more.
        script("gpu/dev/bench/bench_step", "echo $* >>" + here_ + R"(/steps
               while [ $# -gt 0 ]; do
                   case $1 in --model) model=$2 ;; --batch-size) B=$2 ;; --fit-mib) mib=$2 ;; --brief) brief=1 ;; esac
                   shift
               done
               if [ -n "${mib:-}" ]; then
                   [ $model = gpt2 ] || mib=$((mib - 28 * 1024))
                   while [ $((B * 1024)) -gt $mib ]; do
                       [ $B -gt 1 ] || { echo "bench_step: $model does not fit" >&2; exit 1; }
                       B=$((B / 2))
                   done
                   echo $B
               elif [ -n "${brief:-}" ]; then
                   echo 50.0 ms 1 tokens/s
               else
                   printf '# A step\n\n| matmuls | 30.0 |\n\nStep: 50 ms.\n'
               fi)");
        script("gpu/dev/bench/bench_kernels", "echo '# Kernels'; echo '| norm | 90 % |'");
        script("gpu/dev/bench/bench_attention",
               "while [ $1 != --peer ]; do shift; done; sh -c \"$2\"; echo '| 64 |'; echo end");
        gpu("NVIDIA H100 80GB HBM3, 580.82.07, 9.0, 81559, 81079");
        script("path/python3", "echo 'No module named torch' >&2; exit 1");
        script("path/compute-sanitizer", "while [[ $1 != /* ]]; do shift; done; exec \"$@\"");
    }
    // "engine", "hopper/hopper": each test of the CUDA code.
    static std::vector<std::string> gpu_tests() {
        std::vector<std::string> names;
        for (const auto& entry : fs::recursive_directory_iterator("tests/cuda")) {
            const std::string name = fs::relative(entry.path(), "tests/cuda").string();
            if (name.ends_with("_test.cpp")) names.push_back(name.substr(0, name.size() - 9));
        }
        return names;
    }
    void script(const std::string& name, const std::string& body) {
        fs::permissions(directory_.write(name, "#!/bin/bash\n" + body + "\n"), fs::perms::owner_all);
    }
    void test(const std::string& name, const std::string& body) {
        script(
            "gpu/tests/cuda/" + name + "_test",
            "case $* in *list_tests*) echo Suite.; echo '  one'; exit ;; esac\necho $* >>" + here_ + "/tests\n" + body);
    }
    void gpu(const std::string& facts) {
        script("path/nvidia-smi", "[ \"$*\" != -L ] || { echo GPU 0; exit; }\necho '" + facts + "'");
    }
    // A trainer with a loss that falls from `first` by 0.02 in each step. It refuses options that the real trainer
    // refuses.
    void trainer(const std::string& name, const std::string& first) {
        script("bin/" + name, "for o; do [[ $o != --* ]] || " + program_path("train_gpt2").string() +
                                  " --help | grep -q -e \"$o\" || exit 2; done; [[ $* == *-o* ]] || exit 0; "
                                  "while [ \"$1\" != -o ]; do shift; done; mkdir -p $2; seq 0 199 | awk '{ printf "
                                  "\"{\\\"train_loss\\\":%f,\\\"x\\\":1}\\n\", " +
                                  first + " - $1 * 0.02 }' >$2/metrics.jsonl");
    }
    std::vector<std::string> command(const std::string& settings) const {
        return {"-c", "exec env PATH=" + here_ + "/path:$PATH BUILD=" + here_ + " RESULTS=" + here_ +
                          "/results SHARDS=" + here_ + "/shards PYTHON=" + here_ +
                          "/path/python3 CHECK_GPU_SECONDS=3600 " + settings + " dev/check_gpu.sh"};
    }
    Finished check(const std::string& settings = "") {
        fs::remove_all(here_ + "/results");
        return run_program("/bin/bash", command(settings));
    }
    std::string text_of(const std::string& file) const {
        return run_program("/bin/bash", {"-c", "cat " + here_ + "/results/*/" + file}).out;
    }
    static void expect_parts(const std::string& text, const std::vector<std::string>& parts) {
        for (const std::string& part : parts) EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
    }

    const TempDirectory directory_;
    const std::string here_ = directory_.path();
};

// The parts and their results, in the order of the rows: "start ok, step ok".
std::string results_of(const std::string& table) {
    std::string all;
    const std::regex row(R"(\n\| ([a-z0-9_]+) \| (ok|FAILED|TIMEOUT|stopped|skipped) \|)");
    for (std::sregex_iterator at(table.begin(), table.end(), row), end; at != end; ++at) {
        all += concat(all.empty() ? "" : ", ", (*at)[1].str(), " ", (*at)[2].str());
    }
    return all;
}

TEST_F(CheckGpu, parts_fit_nine_minutes_and_the_table_says_what_each_found) {
    const std::string source = run_program("/bin/cat", {"dev/check_gpu.sh"}).out;
    const std::regex part(R"(\n[a-z0-9_]+ +([0-9]+) )");
    int seconds = 0;
    for (std::sregex_iterator at(source.begin(), source.end(), part), end; at != end; ++at) seconds += stoi((*at)[1]);
    EXPECT_EQ(seconds, 540);
    for (const std::string& name : gpu_tests()) {
        EXPECT_TRUE(std::regex_search(source, std::regex("run_tests " + name + "[ ;]"))) << name << " has no part";
    }

    const Finished result = check("REPEAT=bundle/run");
    EXPECT_EQ(result.code, 0) << result.out << result.err;
    const std::string table = text_of("table.md");
    EXPECT_EQ(
        results_of(table),
        "start ok, step ok, generate skipped, engine_first ok, engine ok, updates ok, matmul ok, sampling ok, kernels "
        "ok, flash "
        "ok, "
        "edges ok, hopper ok, facts ok, nccl ok, ranks ok, background skipped, gelu_0 ok, gelu_1 ok, gelu_2 ok, "
        "train_float32 skipped, "
        "train_16_bits skipped, pairs skipped, kernel_speed ok, attention ok, xl ok, memcheck ok, racecheck ok");
    expect_parts(table, {"# Kiln on NVIDIA H100 80GB HBM3, 20", "H100 80GB HBM3, sm_90, 81559 MiB of memory",
                         "driver 580.82.07, CUDA toolkit ", "64 x 1024 tokens in bfloat16",
                         "`PARTS=\"engine flash\" bundle/run`",
                         " | every other model and type, compared with the CPU | 2 passed |",
                         " | ten training steps of GPT-2 124M | 50.0 ms 1 tokens/s |", "Step: 50 ms. |\n",
                         "no shards in ", "no PyTorch: No module named torch |\n",
                         "\n## gelu_0\n\n\n| matmuls | 30.0 |", "\n## kernel_speed\n\n| norm | 90 % |\n"});
    EXPECT_EQ(text_of("engine.log"), "[  PASSED  ] 2 tests.\n2 passed\n");
}

TEST_F(CheckGpu, what_a_smaller_gpu_cannot_do_is_skipped_by_name) {
    gpu("NVIDIA GeForce RTX 3060, 580.82.07, 8.6, 12288, 11900");
    const Finished result = check();
    EXPECT_EQ(result.code, 0) << result.out << result.err;
    expect_parts(result.out, {"| TMA and wgmma | needs sm_90, and this GPU is sm_86 |",
                              "| five training steps of GPT-2 1558M | bench_step: gpt2-xl does not fit |",
                              "| flash | ok |", "| attention | ok |"});
    expect_parts(run_program("/bin/cat", {here_ + "/steps"}).out,
                 {"--model gpt2 --batch-size 8 --seq-len 1024 --precision bfloat16 --brief",
                  "--model gpt2 --batch-size 8 --seq-len 1024 --precision bfloat16 --steps 10 --fused-gelu 2"});
}

TEST_F(CheckGpu, an_old_gpu_computes_in_float16_without_flash_attention) {
    gpu("Tesla T4, 580.82.07, 7.5, 15360, 14900");
    const Finished result = check();
    EXPECT_EQ(result.code, 0) << result.out << result.err;
    const std::string why = "needs sm_80 or later, and this GPU is sm_75 |";
    for (const char* part : {"flash", "edges", "background", "pairs", "attention"}) {
        const size_t row = result.out.find(concat("| ", part, " | skipped |"));
        ASSERT_NE(row, std::string::npos) << part << result.out;
        const std::string line = result.out.substr(row, result.out.find('\n', row) - row);
        EXPECT_TRUE(line.ends_with(why)) << line;
    }
    expect_parts(result.out, {"| TMA and wgmma | needs sm_90, and this GPU is sm_75 |"});
    expect_parts(run_program("/bin/cat", {here_ + "/steps"}).out,
                 {"--batch-size 8 --seq-len 1024 --precision float16 --brief"});
    expect_parts(run_program("/bin/cat", {here_ + "/tests"}).out,
                 {"--gtest_filter=*/gpt2_flash_float16:*/gpt2_float32\n",
                  "--gtest_filter=-*/gpt2_flash_float16:*/gpt2_float32\n"});
}

TEST_F(CheckGpu, only_the_parts_that_are_named_run) {
    const Finished result = check("PARTS='flash engine'");
    EXPECT_EQ(results_of(result.out), "engine ok, flash ok");
    const Finished wrong = check("PARTS='flash engines'");
    EXPECT_EQ(wrong.code, 2);
    expect_parts(wrong.err, {"no part is called engines; PARTS may name: start step generate "});
}

TEST_F(CheckGpu, parts_that_fail_crash_or_hang_keep_their_logs_and_the_others_run) {
    test("matmul", "echo '[ RUN      ] Matmul.adds'; kill -SEGV $$");
    test("kernels", "echo '[  FAILED  ] Kernels.add (3 ms)'; echo wrong number; exit 1");
    test("flash_attention_edges", "echo began; sleep 60");
    // Five seconds for `edges`, and more for each of the others.
    const Finished result = check("PARTS='matmul kernels edges hopper xl memcheck racecheck' CHECK_GPU_SECONDS=25");
    EXPECT_EQ(result.code, 1);
    EXPECT_EQ(results_of(result.out),
              "matmul FAILED, kernels FAILED, edges TIMEOUT, hopper ok, xl ok, memcheck FAILED, racecheck FAILED");
    expect_parts(result.out, {" matmuls by cuBLASLt | signal SEGV: [ RUN      ] Matmul.adds |",
                              "| [  FAILED  ] Kernels.add (3 ms) |", " s: began |",
                              "not ok: matmul kernels edges memcheck racecheck; to repeat: PARTS=\"matmul kernels "
                              "edges memcheck racecheck\" dev/check_gpu.sh"});
    expect_parts(text_of("kernels.log"), {"wrong number"});
    EXPECT_EQ(text_of("edges.log"), "began\n");
}

TEST_F(CheckGpu, a_part_in_which_no_test_passed_is_not_ok) {
    test("matmul", "echo '[  PASSED  ] 0 tests.'");
    test("generation", "echo '[  PASSED  ] 0 tests.'; echo '[  SKIPPED ] 3 tests, listed below:'");
    test("kernels", "echo '[  PASSED  ] 0 tests.'");
    const Finished result = check("PARTS='matmul sampling kernels memcheck'");
    EXPECT_EQ(result.code, 1);
    EXPECT_EQ(results_of(result.out), "matmul FAILED, sampling skipped, kernels FAILED, memcheck FAILED");
    expect_parts(result.out, {"| no test ran |", "| 0 passed 3 skipped: the log says why |"});
}

TEST_F(CheckGpu, a_run_that_is_stopped_leaves_its_rows_and_logs) {
    test("kernels", "echo began; sleep 0.5; echo $$ >" + here_ + "/pid; sleep 60");
    for (const int signal : {SIGTERM, SIGKILL}) {
        SCOPED_TRACE(signal);
        fs::remove_all(here_ + "/results");
        fs::remove(here_ + "/pid");
        const pid_t script = start_program("/bin/bash", command("PARTS='matmul kernels edges'"), "/dev/null",
                                           here_ + "/out", here_ + "/err");
        ASSERT_TRUE(appears(here_ + "/pid"));
        kill(script, signal);
        int status = 0;
        waitpid(script, &status, 0);
        const std::string table = text_of("table.md");
        expect_parts(table, {"| matmul | ok |"});
        EXPECT_EQ(text_of("kernels.log"), "began\n");
        const bool told =
            table.find("\n| kernels | stopped | - | - | a signal stopped the whole run |\n") != table.npos;
        EXPECT_EQ(told, signal == SIGTERM) << table;  // nothing can be done on a SIGKILL
        const pid_t part = std::stoi(run_program("/bin/cat", {here_ + "/pid"}).out);
        if (signal == SIGTERM) {
            EXPECT_EQ(WEXITSTATUS(status), 143);
        } else {
            kill(part, SIGKILL);
        }
        for (int i = 0; i < 500 && kill(part, 0) == 0; i++) std::this_thread::sleep_for(std::chrono::milliseconds(10));
        EXPECT_NE(kill(part, 0), 0) << "the part runs on";
    }
}

TEST_F(CheckGpu, a_curve_that_differs_from_the_cpus_is_a_failure) {
    directory_.write("shards", "");
    trainer("train_gpt2", "8");
    trainer("train_gpt2cu", "8.01");
    const std::string parts = "PARTS='train_float32 train_16_bits'";
    const Finished same = check(parts);
    EXPECT_EQ(same.code, 0) << same.out << same.err;
    EXPECT_EQ(results_of(same.out), "background ok, train_float32 ok, train_16_bits ok");
    trainer("train_gpt2cu", "9");
    const Finished result = check(parts);
    EXPECT_EQ(result.code, 1);
    expect_parts(result.out, {"| train_16_bits | FAILED "});
    script("bin/train_gpt2", "echo no memory; exit 1");
    expect_parts(check(parts).out, {"| train_float32 | FAILED ", "the CPU did not train: no memory |"});
}

// Three interleaved measurements of each, or fewer if PyTorch dies. PyTorch gets no library of Kiln's.
TEST_F(CheckGpu, measures_interleaved_with_pytorch_until_that_ends) {
    const std::string torch =
        "[ \"$LD_LIBRARY_PATH\" = its/own ] || exit 1; "
        "case $1 in *torch_attention.py) echo its attention; exit ;; esac; echo 'PyTorch 9, B = 16'; ";
    script("path/python3", torch + "while read -r; do echo '100.0 ms 5 tokens/s'; done");
    const std::string settings = "LD_LIBRARY_PATH=its/own LIBRARIES=bundle/lib PARTS='pairs attention'";
    const Finished result = check(settings);
    EXPECT_EQ(result.code, 0) << result.out << result.err;
    expect_parts(result.out, {"| background | ok |", "| PyTorch 9, B = 16 |",
                              "Kiln is 2.000 times as fast, the median of 3 pairs; the last: Kiln 50.0 ms, PyTorch "
                              "100.0 ms; PyTorch 9, B = 16 |"});
    expect_parts(run_program("/bin/cat", {here_ + "/steps"}).out,
                 {"--batch-size 16 --seq-len 1024 --precision bfloat16 --brief --steps 10"});
    expect_parts(text_of("attention.log"), {"its attention"});
    script("path/python3", torch + "read -r; echo '100.0 ms 5 tokens/s'; echo out of memory >&2");
    const Finished died = check(settings);
    EXPECT_EQ(died.code, 0) << died.out << died.err;
    expect_parts(died.out, {"2.000 times as fast, the median of 1 pairs", "| attention | ok |"});
}

TEST_F(CheckGpu, a_library_that_is_missing_is_named) {
    script("path/ldd", "[[ $1 != */matmul_test ]] || echo 'libdnnl.so.2 => not found'");
    const Finished result = check("PARTS=start");
    EXPECT_EQ(result.code, 1);
    expect_parts(result.out, {"| start | FAILED |", "matmul_test: libdnnl.so.2 => not found |"});
}

TEST_F(CheckGpu, without_a_gpu_prints_how_many_tests_need_one) {
    script("path/nvidia-smi", "exit 9");
    const Finished result = check();
    EXPECT_EQ(result.code, 0);
    EXPECT_EQ(result.out, "skipped: no GPU (13 tests need one)\n");
}

// dev/gpu_bundle_run.sh, which is `run` in a bundle: it looks for the CUDA libraries, and sets nothing that PyTorch
// sees.
TEST_F(CheckGpu, a_bundle_takes_the_libraries_of_cuda_or_of_pytorch) {
    const std::string bundle = here_ + "/bundle", cuda = here_ + "/cuda", site = here_ + "/site",
                      in_pytorch = "/nvidia/cu13/lib";
    fs::create_directories(bundle);
    fs::copy_file("dev/gpu_bundle_run.sh", bundle + "/run");
    directory_.write("bundle/unpacked", "");
    script("bundle/dev/check_gpu.sh", "echo $LIBRARIES $RESULTS ${LD_LIBRARY_PATH:-none}");
    const auto run = [&] {
        return run_program("/bin/bash", {"-c", "cd " + here_ + " && exec env -u LD_LIBRARY_PATH PATH=" + here_ +
                                                   "/path:$PATH PYTHON=/usr/bin/python3 PYTHONPATH=" + site +
                                                   " CUDA=" + cuda + " RESULTS=mine bundle/run"});
    };
    const Finished none = run();
    EXPECT_EQ(none.code, 1);
    expect_parts(none.err, {"run: no libcublasLt.so.13 in " + cuda + "/lib64 or with PyTorch"});
    for (const char* library : {"libcublasLt.so.13", "libcudart.so.13"})
        directory_.write("site" + in_pytorch + "/" + library, "");
    EXPECT_EQ(run().out, concat(bundle, "/lib:", site, in_pytorch, ":", site, in_pytorch, " ", here_, "/mine none\n"));
    directory_.write("cuda/lib64/libcublasLt.so.13", "");
    EXPECT_EQ(run().out, concat(bundle, "/lib:", cuda, "/lib64:", site, in_pytorch, " ", here_, "/mine none\n"));
}

}  // namespace
}  // namespace kiln
