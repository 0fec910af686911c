// `make profile`: how the time of a training step is divided among the groups of kernels, compared with the rates of a
// copy and of a matmul in the same run. `--predict` computes the same table without a measurement, on any machine.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/rng.h"
#include "cuda/device/profile.h"
#include "cuda/engine/cuda_engine.h"
#include "dev/bench/support/ceilings.h"
#include "dev/bench/support/program.h"
#include "tools/cli/options.h"

namespace kiln::bench {
namespace {

using Clock = std::chrono::steady_clock;
const Clock::time_point kStart = Clock::now();

struct Options {
    std::string model = "gpt2", precision = "bfloat16", json;
    int B = 64, T = 1024, recompute = 0, fused_gelu = 0, steps = 20, fit_mib = 0;
    bool small = false, brief = false, predict = false;
    Ceilings ceilings{4300, 790};
};

Precision precision_of(const std::string& name) {
    return name == "bfloat16" ? Precision::bfloat16 : name == "float16" ? Precision::float16 : Precision::float32;
}

double ms_since(Clock::time_point start) {
    return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + ptrdiff_t(values.size() / 2), values.end());
    return values[values.size() / 2];
}

// Steps like those of the trainer: two random batches alternate, and a step's loss is read while the next one runs.
class Steps {
public:
    Steps(const ModelConfig& config, const EngineOptions& options, Profiler* profiler)
        : engine_(make_cuda_engine(config, options, nullptr, profiler)), scale_(1.0f / float(options.B * options.T)) {
        engine_->init_weights(1);
        const size_t N = size_t(options.B) * size_t(options.T);
        for (const uint32_t which : {0u, 1u}) {
            for (size_t i = 0; i < N; i++) {
                tokens_[which].push_back(int(philox4x32(7, uint32_t(i), which, 0, 0).v[0] % uint32_t(config.V)));
            }
            targets_[which].assign(tokens_[which].begin() + 1, tokens_[which].end());
            targets_[which].push_back(-1);
        }
    }

    // Takes a step and returns the time since the last call. With `wait` it waits for the loss of this step.
    double one_ms(bool wait) {
        Engine& e = *engine_;
        e.zero_gradients();
        const size_t which = size_t(t_) % 2;
        e.forward_backward({tokens_[which].data(), targets_[which].data()}, scale_, 1);
        const OptimizerStep step{.lr = 1e-4f, .t = ++t_};
        if (e.can_queue_updates()) {
            e.queue_update(step, 1.0f);
            if (queued_++ > 0) e.take_update();
            if (wait) e.take_update(), queued_ = 0;
        } else {
            e.take_loss();
            e.gradient_norm();
            e.update(step);
        }
        const double ms = ms_since(last_);
        last_ = Clock::now();
        return ms;
    }
    size_t memory_in_use() const { return engine_->memory_in_use_bytes(); }

private:
    std::unique_ptr<Engine> engine_;
    const float scale_;
    std::vector<int> tokens_[2], targets_[2];
    int64_t t_ = 0;
    int queued_ = 0;
    Clock::time_point last_ = Clock::now();
};

struct Measured {
    double first_step_s = 0, step_ms = 0, profiled_ms = 0;
    size_t memory_bytes = 0, planned_bytes = 0;
    double group_ms[kGroups] = {};
    int64_t ranges[kGroups] = {};
};

size_t planned_bytes(const ModelConfig& config, const EngineOptions& engine) {
    size_t bytes = 0;
    for (const MemoryItem& item : plan_cuda_memory(config, engine)) bytes += item.bytes;
    return bytes;
}

// The largest of o.B, o.B / 2, o.B / 4, ... for which o.fit_mib of memory is enough.
int fitting_batch(const ModelConfig& config, EngineOptions engine, const Options& o) {
    for (;; engine.B /= 2) {
        const size_t mib = (planned_bytes(config, engine) >> 20) + 1;
        if (mib <= size_t(o.fit_mib)) return engine.B;
        KILN_CHECK(engine.B > 1, o.model, " does not fit: one sequence of ", o.T, " tokens needs ", mib, " MiB, and ",
                   o.fit_mib, " are free");
    }
}

constexpr int kWarmUp = 4;

Measured measure(const ModelConfig& config, const EngineOptions& engine, const Options& o) {
    Measured m;
    m.planned_bytes = planned_bytes(config, engine);
    {
        Steps steps(config, engine, nullptr);
        steps.one_ms(true);
        m.first_step_s = ms_since(kStart) * 1e-3;
        for (int i = 0; i < kWarmUp; i++) steps.one_ms(false);
        std::vector<double> ms;
        for (int i = 0; i < o.steps; i++) ms.push_back(steps.one_ms(false));
        m.step_ms = median(ms);
        m.memory_bytes = steps.memory_in_use();
    }
    if (o.brief) return m;
    Profiler profiler;
    Steps steps(config, engine, &profiler);
    std::vector<double> ms, group_ms[kGroups];
    for (int i = 0; i < kWarmUp + o.steps; i++) {
        const double step = steps.one_ms(true);
        const auto times = profiler.take();
        if (i < kWarmUp) continue;
        ms.push_back(step);
        for (int group = 0; group < kGroups; group++) {
            group_ms[group].push_back(times[size_t(group)].ms);
            m.ranges[group] = times[size_t(group)].ranges;
        }
    }
    m.profiled_ms = median(ms);
    for (int group = 0; group < kGroups; group++) m.group_ms[group] = median(group_ms[group]);
    return m;
}

// With the measured times, or with the least possible times if m is null.
std::string table_of(const std::vector<KernelWork>& work, const Ceilings& ceilings, const Measured* m) {
    double all_ms = 0, group_ms[kGroups];
    GroupWork sums[kGroups];
    for (int i = 0; i < kGroups; i++) {
        sums[i] = sum_of(work, Group(i), ceilings);
        group_ms[i] = m ? m->group_ms[i] : sums[i].floor_ms;
        all_ms += group_ms[i];
    }
    std::string text = m ? "| group | ms | share | GFLOP | GB | of the ceiling |\n|---|---:|---:|---:|---:|---:|\n"
                         : "| group | ms at least | share | GFLOP | GB | ranges |\n|---|---:|---:|---:|---:|---:|\n";
    char line[200];
    for (int i = 0; i < kGroups; i++) {
        if (sums[i].ranges == 0 && group_ms[i] == 0) continue;
        std::snprintf(line, sizeof line, "| %-10s | %9.3f | %5.1f %% | %10.1f | %8.3f |", name_of(Group(i)),
                      group_ms[i], 100 * group_ms[i] / all_ms, sums[i].flops * 1e-9, sums[i].bytes * 1e-9);
        text += line;
        if (m) {
            std::snprintf(line, sizeof line, " %5.1f %% |\n", 100 * sums[i].floor_ms / std::max(group_ms[i], 1e-9));
        } else {
            std::snprintf(line, sizeof line, " %lld |\n", static_cast<long long>(sums[i].ranges));
        }
        text += line;
    }
    std::snprintf(line, sizeof line, "| all | %.3f | 100 %% | | | |\n", all_ms);
    return text + line;
}

nlohmann::json to_json(const Options& o, const std::vector<KernelWork>& work, const Ceilings& ceilings,
                       const Measured& m, const std::string& device) {
    nlohmann::json all = {{"device", device},
                          {"model", o.model},
                          {"batch_size", o.B},
                          {"seq_len", o.T},
                          {"precision", o.precision},
                          {"step_ms", m.step_ms},
                          {"tokens_per_s", double(o.B) * o.T / m.step_ms * 1e3},
                          {"first_step_s", m.first_step_s},
                          {"memory_bytes", m.memory_bytes},
                          {"planned_bytes", m.planned_bytes}};
    if (o.brief) return all;
    all["profiled_ms"] = m.profiled_ms;
    all["copy_gb_per_s"] = ceilings.gb_per_s;
    all["matmul_tflop_per_s"] = ceilings.tflop_per_s;
    for (int i = 0; i < kGroups; i++) {
        const GroupWork sum = sum_of(work, Group(i), ceilings);
        all["groups"].push_back({{"group", name_of(Group(i))},
                                 {"ms", m.group_ms[i]},
                                 {"floor_ms", sum.floor_ms},
                                 {"flops", sum.flops},
                                 {"bytes", sum.bytes},
                                 {"ranges", m.ranges[i]},
                                 {"ranges_expected", sum.ranges}});
    }
    return all;
}

void print_figures(const Options& o, const Measured& m, const Ceilings& ceilings) {
    double sum = 0;
    for (const double ms : m.group_ms) sum += ms;
    const double matmuls = m.group_ms[size_t(Group::matmuls)], attention = m.group_ms[size_t(Group::attention)];
    std::printf("\nCeilings of this run: copy %.0f GB/s (read and written), matmul %.0f TFLOP/s in 16 bits.\n",
                ceilings.gb_per_s, ceilings.tflop_per_s);
    std::printf("Step: %.3f ms, %.0f tokens/s; with events and without graphs %.3f ms.\n", m.step_ms,
                double(o.B) * o.T / m.step_ms * 1e3, m.profiled_ms);
    std::printf("Launch gaps: %.3f ms, %.1f %% of the step (the step minus the groups).\n", m.step_ms - sum,
                100 * (m.step_ms - sum) / m.step_ms);
    std::printf("Without attention: the step takes %.2f times the matmuls.\n", (m.step_ms - attention) / matmuls);
    std::printf("First step: %.1f s after the start.\n", m.first_step_s);
    std::printf("Memory in use: %.1f MiB, planned %.1f MiB (%.3f).\n", double(m.memory_bytes) / (1 << 20),
                double(m.planned_bytes) / (1 << 20), double(m.memory_bytes) / double(m.planned_bytes));
}

void run(const std::vector<std::string>& args) {
    Options o;
    OptionSet set("bench_step", "Measures a training step on a GPU: the time of each group of kernels and their rates.",
                  {"--model gpt2-xl --batch-size 16", "--model gpt2 --predict --copy 3000 --matmul 700"});
    set.add(o.model, {.name = "model", .unit = "MODEL", .help = "preset or descriptor"});
    set.add(o.B, {.name = "batch-size", .unit = "SEQUENCES", .help = "sequences in the batch", .min = 1});
    set.add(o.T, {.name = "seq-len", .unit = "TOKENS", .help = "tokens in a sequence", .min = 1});
    set.add(o.precision, {.name = "precision",
                          .help = "type of weights and activations",
                          .choices = {"bfloat16", "float16", "float32"}});
    set.add(o.recompute, {.name = "recompute",
                          .help = "what the backward pass computes again: 0 (nothing) to 3 (blocks)",
                          .min = 0,
                          .max = 3});
    set.add(o.fused_gelu, {.name = "fused-gelu",
                           .help = "matmuls that apply GELU: 0 (none), 1 (forward), 2 (also backward)",
                           .min = 0,
                           .max = 2});
    set.add(o.steps, {.name = "steps", .help = "timed steps, with and without the profiler", .min = 1});
    set.add(o.json, {.name = "json", .unit = "FILE", .help = "write the figures as JSON; empty: no file"});
    set.add(o.small, {.name = "small", .help = "measure small ceilings, to test this program"});
    set.add(o.brief, {.name = "brief", .help = "measure and print only milliseconds a step and tokens a second"});
    set.add(o.fit_mib, {.name = "fit-mib",
                        .unit = "MIB",
                        .help = "measure nothing; print the largest of --batch-size, its half, its quarter, ... whose "
                                "memory plan fits into so much memory; 0: off",
                        .min = 0});
    set.add(o.predict, {.name = "predict",
                        .help = "measure nothing, and need no GPU; each kernel runs at the ceiling that bounds it"});
    set.add(o.ceilings.gb_per_s, {.name = "copy", .unit = "GB/S", .help = "rate of a copy for --predict", .min = 1});
    set.add(o.ceilings.tflop_per_s,
            {.name = "matmul", .unit = "TFLOP/S", .help = "rate of a matmul for --predict", .min = 1});
    if (!set.parse(args)) return;
    const std::string gpu = o.predict ? "" : gpu_name();
    const ModelConfig config = parse_model(o.model);
    const EngineOptions engine = {.B = o.B,
                                  .T = o.T,
                                  .precision = precision_of(o.precision),
                                  .recompute = o.recompute,
                                  .fused_gelu = o.fused_gelu,
                                  .capability = o.predict ? 90 : 0};
    const std::vector<KernelWork> work = step_work(config, engine);
    if (o.fit_mib > 0) {
        std::cout << fitting_batch(config, engine, o) << "\n";
        return;
    }
    if (o.predict) {
        std::cout << table_of(work, o.ceilings, nullptr);
        return;
    }
    const Measured m = measure(config, engine, o);
    Ceilings ceilings{};
    if (o.brief) {
        std::printf("%.3f ms %.0f tokens/s\n", m.step_ms, double(o.B) * o.T / m.step_ms * 1e3);
    } else {
        Timer timer(o.small ? 1 : 50);
        ceilings = measure_ceilings(timer, o.small);
        std::printf("# A step of %s, %d x %d tokens, %s, on %s\n\n", o.model.c_str(), o.B, o.T, o.precision.c_str(),
                    gpu.c_str());
        std::cout << table_of(work, ceilings, &m) << std::flush;
        print_figures(o, m, ceilings);
    }
    if (!o.json.empty()) {
        std::ofstream file(o.json);
        file << to_json(o, work, ceilings, m, gpu).dump(2) << "\n";
        file.close();
        KILN_CHECK(file, "cannot write ", o.json);
    }
}

}  // namespace
}  // namespace kiln::bench

int main(int argc, char** argv) {
    return kiln::bench::run_benchmark("bench_step", kiln::bench::run, argc, argv);
}
