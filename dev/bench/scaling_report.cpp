// `make scaling-report`: the predicted step on several GPUs (dev/bench/support/scaling.h) as tables, on any machine.
#include <algorithm>
#include <iostream>
#include <string>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "cuda/engine/cuda_engine.h"
#include "dev/bench/support/program.h"
#include "dev/bench/support/scaling.h"
#include "tools/cli/options.h"

namespace kiln::bench {
namespace {

struct Machine {
    std::string name;
    Network network;
    Ceilings gpu;
};

struct Model {
    std::string name;
    int B, T, recompute;
};

struct Options {
    Model model{"", 16, 1024, 0};
    int micro_batches = 1;
    bool narrow_reduce = false;
    double step_ms = 0;  // of one GPU, as measured
    Machine machine{
        "", {.nodes = 1, .gpus = 8, .gb_per_s = 370, .call_us = 8.4, .hop_us = 3.4, .net_us = 14}, {3000, 790}};
};

// dev/docs/scaling.md says where these numbers come from.
std::vector<Machine> machines() {
    constexpr Ceilings kH100{3000, 790}, kA100Pcie{1700, 250};
    constexpr double kH100Sms = 132, kA100Sms = 108;
    const auto nodes = [&](double gb_per_s, double sms) {
        return Network{.nodes = 16,
                       .gpus = 8,
                       .gb_per_s = gb_per_s,
                       .call_us = 8.4,
                       .hop_us = 3.4,
                       .net_us = 14,
                       .share = sms / kH100Sms};
    };
    return {
        {"8 x H100, NVLink",
         {.gpus = 8, .gb_per_s = 370, .call_us = 8.4, .hop_us = 3.4, .share = 24 / kH100Sms},
         kH100},
        {"8 x A100, PCIe 4",
         {.gpus = 8, .gb_per_s = 24, .call_us = 8.4, .hop_us = 5.7, .share = 2 / kA100Sms},
         kA100Pcie},
        {"16 x 8 H100, 400 Gb/s a GPU", nodes(365, 16), kH100},
        {"16 x 8 H100, 400 Gb/s a node", nodes(46, 4), kH100},
    };
}

EngineOptions engine_options(const Model& model, const Machine& machine, int stage, bool narrow_reduce) {
    EngineOptions options{
        .B = model.B, .T = model.T, .precision = Precision::bfloat16, .recompute = model.recompute, .capability = 90};
    options.ranks = machine.network.ranks();
    options.zero_stage = stage;
    options.narrow_reduce = narrow_reduce;
    return options;
}

void print_head(const std::string& title) {
    std::cout << "\n"
              << title << "\n\n"
              << "| GPUs | `-z` | GiB | GB sent | computes, ms | waits, ms | slowed, ms | step, ms | efficiency |\n"
                 "|---|---:|---:|---:|---:|---:|---:|---:|---:|\n";
}

void print_rows(const Machine& machine, const Options& o, const Model& model) {
    const ModelConfig config = parse_model(model.name);
    for (const int stage : {0, 1, 2, 3}) {
        const EngineOptions options = engine_options(model, machine, stage, o.narrow_reduce);
        RankedStep step = ranked_step(config, options, o.micro_batches, machine.gpu);
        if (o.step_ms > 0) {
            const double factor = o.step_ms / predict_scaling(step, machine.network).one_gpu_ms;
            for (double& ms : step.ms) ms *= factor;
        }
        const Scaling s = predict_scaling(step, machine.network);
        size_t bytes = 0;
        for (const MemoryItem& item : plan_cuda_memory(config, options)) bytes += item.bytes;
        char line[200];
        std::snprintf(line, sizeof line, "| %s | %d | %.0f | %.2f | %.1f | %.1f | %.1f | %.1f | %.1f %% |\n",
                      machine.name.c_str(), stage, double(bytes) / (1 << 30), s.bytes_sent * 1e-9, s.compute_ms,
                      s.exposed_ms, s.slowed_ms, s.step_ms, 100 * s.efficiency());
        std::cout << line;
    }
}

void run(const std::vector<std::string>& args) {
    Options o;
    double sms = 24;
    OptionSet set("scaling_report",
                  "Predicts a training step on several GPUs for each --zero-stage. Without --model: the tables of "
                  "dev/docs/scaling.md.",
                  {"--model gpt2 --batch-size 64 --step-ms 120", "--model gpt2-xl --gpus 4 --bus 24 --hop-us 5.7"});
    Network& network = o.machine.network;
    set.add(o.model.name, {.name = "model", .unit = "MODEL", .help = "preset or descriptor"});
    set.add(o.model.B, {.name = "batch-size", .unit = "SEQUENCES", .help = "sequences in a micro-batch", .min = 1});
    set.add(o.model.T, {.name = "seq-len", .unit = "TOKENS", .help = "tokens in a sequence", .min = 1});
    set.add(o.model.recompute, {.name = "recompute", .help = "as the trainer's", .min = 0, .max = 3});
    set.add(o.micro_batches, {.name = "micro-batches", .help = "of each rank in a step", .min = 1});
    set.add(o.narrow_reduce, {.name = "narrow-reduce", .help = "as the trainer's --reduce-dtype same"});
    set.add(o.step_ms, {.name = "step-ms",
                        .unit = "MS",
                        .help = "measured step of one GPU, to which all computing is scaled; 0: the least possible",
                        .min = 0});
    set.add(o.machine.gpu.gb_per_s, {.name = "copy", .unit = "GB/S", .help = "rate of a copy on the GPU", .min = 1});
    set.add(o.machine.gpu.tflop_per_s, {.name = "matmul", .unit = "TFLOP/S", .help = "rate of a matmul", .min = 1});
    set.add(network.nodes, {.name = "nodes", .help = "machines", .min = 1});
    set.add(network.gpus, {.name = "gpus", .help = "GPUs of each machine", .min = 1});
    set.add(network.gb_per_s, {.name = "bus", .unit = "GB/S", .help = "bus bandwidth by nccl-tests", .min = 0.001});
    set.add(network.call_us, {.name = "call-us", .unit = "US", .help = "time of a collective without data", .min = 0});
    set.add(network.hop_us, {.name = "hop-us", .unit = "US", .help = "a ring's step within a machine", .min = 0});
    set.add(network.net_us, {.name = "net-us", .unit = "US", .help = "a ring's step between machines", .min = 0});
    set.add(sms, {.name = "sms", .help = "multiprocessors of 132 that a collective takes", .min = 0, .max = 131});
    if (!set.parse(args)) return;
    const auto title = [&](const Model& model) {
        return concat(model.name, ", ", model.B, " x ", model.T, " tokens on each GPU",
                      model.recompute == 3 ? ", blocks recomputed" : "", ":");
    };
    if (!o.model.name.empty()) {
        if (network.ranks() < 2) throw UsageError("one GPU sends nothing; give --nodes or --gpus");
        network.share = sms / 132;
        o.machine.name = concat(network.nodes, " x ", network.gpus);
        print_head(title(o.model));
        return print_rows(o.machine, o, o.model);
    }
    for (const Model& model :
         {Model{"gpt2", 64, 1024, 0}, Model{"gpt2-xl", 16, 1024, 0}, Model{"llama3.1-8b", 2, 4096, 3}}) {
        print_head(title(model));
        for (const Machine& machine : machines()) print_rows(machine, o, model);
    }
}

}  // namespace
}  // namespace kiln::bench

int main(int argc, char** argv) {
    return kiln::bench::run_benchmark("scaling_report", kiln::bench::run, argc, argv);
}
