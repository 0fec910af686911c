// A rehearsal of dev/check_gpu.sh: the emulator's programs in place of those for a GPU, and a script in place of
// nvidia-smi that plays three cards. The engine's memory plan is asked about the real models; then small ones run,
// since the emulator is slow.
#include <gtest/gtest.h>

#include "cpu_reference/interface/error.h"
#include "tests/support/process.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

struct Card {
    const char *facts, *architecture;  // what nvidia-smi says, and SIMT_ARCH
};

class CheckGpuRehearsal : public testing::Test {
protected:
    CheckGpuRehearsal() {
        for (const char* name : {"kiln", "train_gpt2cu", "kilncu"}) link(concat("bin/", name), program_path(name));
        const std::string bench = here_ + "/real/dev/bench/", cases = here_ + "/real/tests/cuda/";
        link("real", build_path());
        script("gpu/dev/bench/bench_step",
               R"(
            case "$*" in *--fit-mib*) exec )" +
                   bench + R"(bench_step "$@" ;; esac
            echo "$@" >>)" +
                   here_ + R"(/steps
            case "$*" in *float16*) type=float16 ;; *) type=bfloat16 ;; esac
            case "$*" in *--brief*) brief=--brief ;; esac
            exec )" +
                   bench +
                   "bench_step --model gpt2:layers=1,dim=64,heads=1,ctx=16,vocab=128 --batch-size 1 --seq-len 8 "
                   "--steps 1 --small --precision $type ${brief:-}");
        // One launch and one round of each kernel.
        for (const char* name : {"bench_kernels", "bench_attention"}) {
            script(concat("gpu/dev/bench/", name),
                   concat("set -- \"${@/#20/1}\"; set -- \"${@/#[35]/1}\"; exec ", bench, name, " \"$@\" --small"));
        }
        // Of each program the tests that are quick, in the form of the script's filters.
        for (const auto& [name, quick] : {std::pair{"gpu_facts", "GpuPeaks.*"},
                                          {"hopper/hopper", "Hopper.unsupported*"},
                                          {"profile", "Profile.groups*"},
                                          {"device_communicator", "*Ranks*/0"},
                                          {"matmul", "Matmul.unsupported*"},
                                          {"kernels", "*/argmax_float16"},
                                          {"flash_attention", "StochasticRounding.infinities*"},
                                          {"flash_attention_edges", "FlashAttentionEdges.shapes*"},
                                          {"engine", "*losses*/gpt2_float32"},
                                          {"engine_update", "*infinite*"},
                                          {"generation", "*graphs*/gpt2_float32"},
                                          {"bench/step", "StepWork.flops*"}}) {
            script(concat("gpu/tests/cuda/", name, "_test"),
                   concat("exec ", cases, name, "_test --gtest_brief=1 --gtest_filter='", quick, "'"));
        }
        script("bin/train_gpt2", "");
        script("path/compute-sanitizer", "while [[ $1 != /* ]]; do shift; done; exec \"$@\"");
        script("path/python3", R"(
            echo 'PyTorch 9, B = 4'
            case $1 in
                *torch_gpt2.py) while read -r; do echo '100.0 ms 5 tokens/s'; done ;;
                *) while read -r; do echo FLASH_ATTENTION 1 2 CUDNN_ATTENTION - - EFFICIENT_ATTENTION 3 4; done ;;
            esac)");
    }
    // Shards of one poem, many times.
    void make_shards() {
        std::string text;
        for (int i = 0; i < 200; i++) text += "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。\n";
        const std::string in = directory_.write("text", text), tokenizer = here_ + "/tokenizer",
                          kiln = here_ + "/bin/kiln";
        run_program(kiln, {"tokenizer", "train", "--input", in, "--vocab-size", "300", "--output", tokenizer});
        run_program(kiln, {"prepare", "--input", in, "--documents", "line", "--tokenizer", tokenizer, "--output",
                           here_ + "/data/shards"});
    }
    void link(const std::string& name, const fs::path& to) {
        const fs::path path = directory_ / name;
        fs::create_directories(path.parent_path());
        fs::create_symlink(fs::absolute(to), path);
    }
    void script(const std::string& name, const std::string& body) {
        fs::permissions(directory_.write(name, "#!/bin/bash\n" + body + "\n"), fs::perms::owner_all);
    }
    Finished check(const Card& card, const std::string& parts) {
        script("path/nvidia-smi", concat("echo '", card.facts, "'"));
        return run_program("/bin/bash", {"-c", "exec env PATH=" + here_ + "/path:$PATH BUILD=" + here_ +
                                                   " RESULTS=" + here_ + "/results CHECK_GPU_SECONDS=3600 SIMT_ARCH=" +
                                                   card.architecture + " PARTS='" + parts + "' dev/check_gpu.sh"});
    }
    static void expect_parts(const std::string& text, const std::vector<std::string>& parts) {
        for (const std::string& part : parts) EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
    }
    std::string steps() const { return run_program("/bin/cat", {here_ + "/steps"}).out; }

    const TempDirectory directory_;
    const std::string here_ = directory_.path();
};

TEST_F(CheckGpuRehearsal, an_h100_does_everything) {
    make_shards();
    const Finished result =
        check({"NVIDIA H100 80GB HBM3, 580.82.07, 9.0, 81559, 81079", "90"},
              "start step generate engine_first engine updates matmul sampling kernels flash edges hopper facts "
              "nccl background gelu_0 gelu_2 pairs kernel_speed attention xl memcheck racecheck");
    EXPECT_EQ(result.code, 0) << result.out << result.err;
    EXPECT_EQ(result.out.find(" | skipped | "), std::string::npos) << result.out;
    expect_parts(result.out, {"- batch of GPT-2 124M: 64 x 1024 tokens in bfloat16", "| every library is found |",
                              "| 20 tokens generated |", "times as fast, the median of 3 pairs; the last: Kiln ",
                              "| 14 kernels, in table.md |", "Launch gaps: "});
    expect_parts(steps(),
                 {"--model gpt2 --batch-size 64 ", "--model gpt2 --batch-size 4 ", "--model gpt2-xl --batch-size 16 "});
    const Finished table = run_program("/bin/bash", {"-c", "cat " + here_ + "/results/*/table.md"});
    expect_parts(table.out, {"\n## gelu_0\n", "| matmuls ", "\n## kernel_speed\n", "| flash_attention_backward ",
                             "\n## attention\n", "Compared with: PyTorch 9"});
}

// 12 GB hold neither 64 sequences of GPT-2 124M nor GPT-2 1558M; Hopper's instructions are missing.
TEST_F(CheckGpuRehearsal, an_rtx_3060_takes_a_smaller_batch) {
    const Finished result =
        check({"NVIDIA GeForce RTX 3060, 580.82.07, 8.6, 12288, 11900", "86"}, "step flash hopper xl");
    EXPECT_EQ(result.code, 0) << result.out << result.err;
    expect_parts(result.out,
                 {"- batch of GPT-2 124M: 16 x 1024 tokens in bfloat16", "| step | ok |", "| flash | ok |",
                  "| hopper | skipped |", "needs sm_90, and this GPU is sm_86 |", "| xl | skipped |",
                  "gpt2-xl does not fit: one sequence of 1024 tokens needs ", " MiB, and 11900 are free |"});
    expect_parts(steps(), {"--model gpt2 --batch-size 16 "});
}

TEST_F(CheckGpuRehearsal, a_t4_takes_the_plain_attention_and_float16) {
    const Finished result = check({"Tesla T4, 580.82.07, 7.5, 15360, 14900", "75"},
                                  "step kernels flash edges hopper gelu_0 pairs kernel_speed attention xl");
    EXPECT_EQ(result.code, 0) << result.out << result.err;
    expect_parts(result.out, {"- batch of GPT-2 124M: 32 x 1024 tokens in float16", "| step | ok |", "| kernels | ok |",
                              "| flash | skipped |", "| edges | skipped |", "| hopper | skipped |", "| gelu_0 | ok |",
                              "| pairs | skipped |", "| kernel_speed | ok |", "| attention | skipped |",
                              "| xl | skipped |", "needs sm_80 or later, and this GPU is sm_75 |"});
    const Finished table = run_program("/bin/bash", {"-c", "cat " + here_ + "/results/*/table.md"});
    expect_parts(table.out, {"| attention_backward ", "| float16  |"});
    EXPECT_EQ(table.out.find("flash_attention_backward"), std::string::npos) << table.out;
}

}  // namespace
}  // namespace kiln
