// The GPU programs on the emulator: the device, its memory and measurements, and kilncu compared with kiln.
#include <gtest/gtest.h>

#include "tests/support/emulated_programs.h"
#include "tests/support/tiny_run.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

void expect_failure(const Finished& result, int code, const Args& parts) {
    EXPECT_EQ(result.code, code) << result.err;
    for (const std::string& part : parts) EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
}

class DeviceCu : public testing::Test {
protected:
    DeviceCu() { setenv("KILN_OUTPUT", "", 1); }
    ~DeviceCu() override {
        for (const char* name : {"SIMT_GPUS", "SIMT_ARCH", "LD_LIBRARY_PATH"}) unsetenv(name);
    }
    TempDirectory directory_;
};

TEST_F(DeviceCu, without_a_gpu_the_programs_name_the_cpu_programs) {
    setenv("SIMT_GPUS", "0", 1);
    const Finished train = train_cu({"-e", "gpt2"});
    expect_failure(train, 1, {"no NVIDIA GPU found", "use train_gpt2, which runs on the CPU"});
    EXPECT_TRUE(train.err.starts_with("train_gpt2cu: no NVIDIA")) << train.err;
    const fs::path kilncu = program_path("kilncu");
    expect_failure(run_program(kilncu, {"generate", "--model", directory_ / "m"}), 1,
                   {"kilncu: no ", "use kiln, which"});
    expect_failure(run_program(kilncu, {"eval", "--model", directory_ / "m", "--data", "d"}), 1, {"use kiln, which"});
    EXPECT_EQ(train_cu({"--help"}).code, 0);
    EXPECT_EQ(run_program(kilncu, {"tokenizer", "--help"}).code, 0);
}

TEST_F(DeviceCu, a_plan_needs_no_gpu_and_takes_the_name_or_the_memory_of_another) {
    setenv("SIMT_GPUS", "0", 1);
    const auto plan = [&](const Args& more) { return train_cu(Args{"-e", "gpt2", "-t", "1024", "--dry-run"} + more); };
    const auto expect = [](const Finished& result, int code, const std::string& part) {
        EXPECT_EQ(result.code, code) << result.err;
        EXPECT_NE((result.out + result.err).find(part), std::string::npos) << part << "\n" << result.out << result.err;
    };
    const Finished unknown = plan({});
    expect(unknown, 0, "no NVIDIA GPU found");
    expect(unknown, 0, "--memory 16GiB says whether this fits");
    EXPECT_EQ(unknown.out.find(" free "), std::string::npos) << unknown.out;
    expect(plan({"--memory", "16GiB"}), 0, "  free                   17179869184 (16.00 GiB of a GPU): it fits\n");
    expect(plan({"--memory", "16GiB", "--gpu", "T4", "--dtype", "float16"}), 0, "16.00 GiB of Tesla T4): it fits\n");
    expect(plan({"--gpu", "T4", "--dtype", "bfloat16"}), 2, "--dtype bfloat16: Tesla T4 does not support it");
    expect(plan({"--gpu", "RTX 4090", "-b", "8"}), 0, "of GeForce RTX 4090): it fits\n");
    expect(plan({"--gpu", "RTX 4090", "-b", "256"}), 1, "of GeForce RTX 4090 are free");
    expect(plan({"--gpu", "A100 80GB", "-b", "auto"}), 0, "it fits\n");
    expect(plan({"--gpu", "RTX 409"}), 2, "--gpu RTX 409: is not a GPU that this program knows; did you mean ");
    expect(plan({"--memory", "lots"}), 2, "--memory: \"lots\" is not a size; write it as in 16GiB");
    expect(train_cu({"-e", "gpt2", "--gpu", "RTX 4090"}), 2, "add --dry-run");
}

TEST_F(DeviceCu, an_older_gpu_trains_in_float32_and_refuses_other_types) {
    setenv("SIMT_ARCH", "75", 1);
    const Args args{"-e", "gpt2", "--dry-run"};
    expect_failure(
        train_cu(args + Args{"--dtype", "bfloat16"}), 2,
        {"--dtype bfloat16: emulated device does not support it; leave the option out, or set it to float16"});
    expect_failure(train_cu(args + Args{"-f", "1"}), 2, {"--tf32 (-f) 1: emulated device does not"});
    const Finished plan = train_cu(args + Args{"--dtype", "auto"});
    EXPECT_EQ(plan.code, 0) << plan.err;
    EXPECT_EQ(plan.out.find("master weights"), std::string::npos) << plan.out;
    EXPECT_EQ(train_cu(args + Args{"--dtype", "float16"}).code, 0);
}

TEST_F(DeviceCu, gelu_fusion_warns_where_it_may_cost_time) {
    const auto output = [](const char* architecture, const Args& options) {
        setenv("SIMT_ARCH", architecture, 1);
        const Finished plan = train_cu(Args{"-e", "gpt2", "--dry-run"} + options);
        EXPECT_EQ(plan.code, 0) << plan.err;
        return plan.out + plan.err;
    };
    const std::string warning = "--gelu-fusion (-ge) 1: on emulated device cuBLASLt may still launch GELU";
    for (const char* warned : {"75", "80", "86", "89", "120"}) {
        EXPECT_NE(output(warned, {"-ge", "1"}).find(warning), std::string::npos) << warned;
    }
    for (const char* fused : {"90", "100"}) {
        EXPECT_EQ(output(fused, {"-ge", "1"}).find(warning), std::string::npos) << fused;
    }
    EXPECT_EQ(output("86", {}).find("gelu-fusion"), std::string::npos);
}

TEST_F(DeviceCu, a_model_that_the_kernels_cannot_compute_is_refused) {
    expect_failure(train_cu({"-e", "llama:layers=1,dim=20,heads=2,ctx=16", "--dry-run"}), 2,
                   {"on a GPU the model's width (dim) must be a multiple of 8, but it is 20", "use train_gpt2"});
}

TEST_F(DeviceCu, every_suggested_option_makes_it_fit) {
    // None of these fits into the 16 GiB of the emulated device.
    const Args xl{"-e", "gpt2-xl", "-w", "0"};
    const Args cases[] = {
        {"-e", "gpt2", "-b", "44", "-t", "1024"},
        {"-e", "gpt2", "-b", "23", "-t", "1024", "--dtype", "float32"},
        {"-e", "gpt2-xl", "-b", "1", "-t", "64", "--moment-dtype", "bfloat16", "--grad-dtype", "same"},
        xl + Args{"-b", "1", "-t", "64", "--grad-dtype", "same"},
        xl + Args{"-b", "8", "-t", "1024", "-r", "3", "--moment-dtype", "bfloat16"}};
    std::string all;
    for (const Args& args : cases) {
        const Finished refused = train_cu(args + Args{"--dry-run"});
        if (refused.code == 0) {
            ADD_FAILURE() << "fits: " << refused.out;
            continue;
        }
        EXPECT_NE(refused.out.find("it does not fit\n"), std::string::npos) << refused.out;
        expect_failure(refused, 1,
                       {"this run needs ", " of emulated device are free", "Each of these alone makes it fit:\n"});
        std::istringstream lines(refused.err.substr(refused.err.find("fit:\n") + 5));
        for (std::string line; std::getline(lines, line);) {
            all += line + "\n";
            std::istringstream words(line.substr(0, line.find("  ", 2)));
            Args options;
            for (std::string word; words >> word;) options.push_back(word);
            const Finished fitting = train_cu(args + Args{"--dry-run"} + options);
            EXPECT_EQ(fitting.code, 0) << line << fitting.err;
            EXPECT_NE(fitting.out.find("it fits\n"), std::string::npos) << fitting.out;
            const size_t bytes = line.find_first_not_of(' ', line.find("  ", 2));
            const std::string total = concat("(", line.substr(bytes, line.find(',') - bytes), ")\n  free");
            EXPECT_NE(fitting.out.find(total), std::string::npos) << line << "\n" << fitting.out;
        }
    }
    for (const char* option : {"  -b ", "  -r 1 ", "  -r 3 ", "  --lm-head-chunks ", "  --grad-dtype same ",
                               "  --moment-dtype bfloat16 ", "  -w 0 ", "  --dtype bfloat16 "}) {
        EXPECT_NE(all.find(option), std::string::npos) << option << "in\n" << all;
    }
    const Args none{"-e", "gpt2-xl", "-b", "1", "-t", "1024", "--dtype", "float32", "--dry-run"};
    const Finished refused = train_cu(none);
    expect_failure(refused, 1, {"No option alone makes it fit; -b 1 --dtype bfloat16 -r 3 "});
    const size_t begin = refused.err.find("fit; ") + 5, end = refused.err.find(" takes ", begin);
    std::istringstream words(refused.err.substr(begin, end - begin));
    Args advice;
    for (std::string word; words >> word;) advice.push_back(word);
    const Finished least = train_cu(none + advice);
    const std::string total = refused.err.substr(end + 7, refused.err.find_first_of(",\n", end + 7) - end - 7);
    EXPECT_NE(least.out.find(concat("(", total, ")\n  free")), std::string::npos)
        << refused.err << least.out << least.err;
}

TEST_F(DeviceCu, batch_size_auto_is_the_largest_that_fits) {
    const Args args{"-e", "gpt2", "-t", "1024", "--dry-run"};
    const Finished any = train_cu(args + Args{"-b", "auto"});
    ASSERT_EQ(any.code, 0) << any.err;
    const int B = int(number_after(any.out, "micro-batch     "));
    EXPECT_NE(any.err.find(concat("--batch-size auto: sequences in a micro-batch: ", B)), std::string::npos) << any.err;
    EXPECT_EQ(train_cu(args + Args{"-b", std::to_string(B)}).code, 0);
    EXPECT_EQ(train_cu(args + Args{"-b", std::to_string(B + 1)}).code, 1);
    const Finished whole = train_cu(args + Args{"-b", "auto", "-d", "98304"});  // 96 sequences
    const int divisor = int(number_after(whole.out, "micro-batch     "));
    EXPECT_EQ(96 % divisor, 0);
    for (int larger = divisor + 1; larger <= B; larger++) EXPECT_NE(96 % larger, 0) << divisor << " was taken";
}

TEST_F(DeviceCu, nvml_is_logged_or_its_absence_is_reported_once) {
    write_markov_shards(directory_ / "data", 4000, 600);
    const Args args{
        "-i", directory_ / "data", "-e", "llama:layers=1,dim=16,heads=2,ctx=16", "-b", "4", "-x", "5", "-v", "0", "-lg",
        "2"};
    const Finished absent = train_cu(args + Args{"-o", directory_ / "absent"});
    ASSERT_EQ(absent.code, 0) << absent.err;
    const size_t said = absent.err.find("--log-gpu-every (-lg): NVML is missing");
    ASSERT_NE(said, std::string::npos) << absent.err;
    EXPECT_EQ(absent.err.find("NVML", said + 40), std::string::npos) << absent.err;

    setenv("LD_LIBRARY_PATH", build_path().c_str(), 1);
    const Finished logged = train_cu(args + Args{"-o", directory_ / "run"});
    ASSERT_EQ(logged.code, 0) << logged.err;
    for (const char* step : {"gpu  2/5 | ", "gpu  4/5 | "}) {
        EXPECT_NE(logged.err.find(
                      concat(step, "SM 1980 MHz | memory 3201 MHz | 543 W of 700 | 61 C | 5.00 GiB | busy 97%\n")),
                  std::string::npos)
            << logged.err;
    }
    const std::string metrics = read_file(directory_ / "run/metrics.jsonl");
    EXPECT_NE(metrics.find("{\"step\":4,\"gpu\":{\"sm_clock_mhz\":1980,\"memory_clock_mhz\":3201,"), std::string::npos)
        << metrics;
    EXPECT_NE(metrics.find("\"throttled_by\":\"\"}}"), std::string::npos) << metrics;
}

TEST_F(DeviceCu, kilncu_matches_kiln) {
    const TinyRun run;
    const fs::path kiln = program_path("kiln"), kilncu = program_path("kilncu");
    const Args eval{"eval", "--model", run.run(), "--data", run.data(), "-b", "4"};
    const auto loss = [&](const fs::path& program, const Args& more) {
        const Finished result = run_program(program, eval + more);
        EXPECT_EQ(result.code, 0) << result.err;
        return number_after(result.out, "\nloss ");
    };
    const double reference = loss(kiln, {});
    EXPECT_NEAR(loss(kilncu, {"--dtype", "float32"}), reference, 2e-6);  // six digits are printed
    // Logits near 0 give a loss near ln V, and each rounding is at most half a unit in the last place.
    // Two runs may take other algorithms for a matmul, so not even runs with the same options are equal.
    EXPECT_NEAR(loss(kilncu, {"--dtype", "bfloat16"}), reference, 0x1p-8 * reference);
    EXPECT_NEAR(loss(kilncu, {}), reference, 0x1p-8 * reference);
    EXPECT_NEAR(loss(kilncu, {"--dtype", "float16"}), reference, 0x1p-11 * reference);
    expect_failure(run_program(kiln, eval + Args{"--dtype", "bfloat16"}), 2,
                   {"is not available in kiln, which computes"});

    const Args generate{"generate", "--model",       run.run(), "--prompt",         "the quick", "床前明月",
                        "brown",    "--temperature", "0",       "--max-new-tokens", "8",         "--ignore-eos"};
    const Finished expected = run_program(kiln, generate);
    ASSERT_EQ(expected.code, 0) << expected.err;
    EXPECT_EQ(run_program(kilncu, generate + Args{"--dtype", "float32"}).out, expected.out);
    const Finished narrow = run_program(kilncu, generate);
    EXPECT_EQ(narrow.code, 0) << narrow.err;
    EXPECT_TRUE(narrow.out.starts_with("the quick")) << narrow.out;
}

}  // namespace
}  // namespace kiln
