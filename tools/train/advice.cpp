#include "tools/train/advice.h"

#include <algorithm>
#include <thread>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"

namespace kiln {

namespace {

constexpr const char* kModels[] = {"llama:layers=2,dim=64,heads=4,ctx=64",
                                   "llama:layers=4,dim=128,heads=4,ctx=128",
                                   "llama:layers=4,dim=192,heads=6,ctx=128",
                                   "llama:layers=6,dim=256,heads=8,ctx=256",
                                   "llama:layers=8,dim=384,heads=6,ctx=256",
                                   "llama:layers=8,dim=512,heads=8,ctx=512",
                                   "gpt2",
                                   "gpt2-medium",
                                   "gpt2-large",
                                   "gpt2-xl"};
// A rough rate of a CPU's core. The slower of the usual ones reach it.
constexpr double kCoreFlops = 5e10, kMaxSeconds = 600;
// Small models learn for many passes. With more parameters than this, without embeddings, they only memorize.
constexpr double kParametersAToken = 10;

std::string counted(int64_t n, const char* what) {
    return concat(n, " ", what, n == 1 ? "" : "s");
}

}  // namespace

std::vector<std::string> warnings(const TrainPlan& plan, uint64_t sequences) {
    const TrainOptions& o = plan.options;
    const int64_t steps = total_steps(o, sequences), a_step = o.total_batch_tokens / o.T, data = int64_t(sequences);
    std::vector<std::string> all;
    if (a_step > data) {
        const bool accumulates = a_step > o.B;
        all.push_back(
            concat("a step takes ", counted(a_step, "sequence"), ", but the data has only ", data,
                   ", so a step repeats some of them; give ",
                   accumulates ? concat("--total-batch-size (-d) ", data * o.T) : concat("--batch-size (-b) ", data),
                   " or less"));
    }
    if (plan.checkpoint.empty() && o.max_steps < 0 && steps < kFewSteps) {
        all.push_back(concat("the run has only ", counted(steps, "step"), ": ", o.epochs, " times ",
                             counted(data, "sequence"), ", ", a_step,
                             " in a step; set more with --epochs or --max-steps (-x), or give a smaller batch"));
    }
    if (steps > 0 && o.warmup_steps >= steps) {
        all.push_back(concat("--warmup-steps (-u) ", o.warmup_steps, " is not below the ", counted(steps, "step"),
                             " of the run, so the schedule never begins; give -u ", steps / 10,
                             steps / 10 > 0 ? " or less" : ""));
    }
    return all;
}

std::string fitting_models(const TrainOptions& options, const Device& device, uint64_t tokens, int V) {
    const int all = std::max(1, int(std::thread::hardware_concurrency()));
    const int cores = options.threads > 0 ? std::min(options.threads, all) : all;
    std::vector<std::string> lines;
    for (const char* const model : kModels) {
        ModelConfig config = parse_model(model);
        if (V > 0) config.V = V;
        TrainOptions o = options;
        o.T = o.T > 0 ? std::min(o.T, config.max_T) : std::min(config.max_T, 1024);
        o.B = std::max(o.B, 1);
        const size_t bytes = planned_bytes(config, engine_options(o));
        const int64_t parameters = count_parameters(config);
        const double pass = double(tokens), learned = double(parameters) - double(config.V) * config.C;
        const double run = o.max_steps > 0
                               ? double(o.max_steps) * std::max<double>(double(o.total_batch_tokens), o.B * o.T)
                               : o.epochs * pass;
        const double seconds = double(flops_per_token(config, o.T)) * run / (kCoreFlops * cores);
        const bool small = lines.size() < 3, cpu = !backend_is_gpu();
        if (device.free_bytes > 0 && bytes > device.free_bytes) break;
        if (!small && ((tokens > 0 && learned > kParametersAToken * pass) || (cpu && seconds > kMaxSeconds))) break;
        lines.push_back(concat("\n  -e ", padded(model, 42), count_text(double(parameters)), " parameters, ",
                               bytes_text(double(bytes)),
                               cpu && run > 0 ? concat(", about ", duration_text(seconds)) : ""));
    }
    lines.erase(lines.begin(), lines.end() - ptrdiff_t(std::min<size_t>(3, lines.size())));
    return join(lines, "");
}

}  // namespace kiln
