// What saving costs a training on this CPU, for `make bench`. In turn it does some steps without a save, with a save
// in the background, and with one that they wait for, each time from the same start; so a machine that becomes slower
// disturbs all three alike. The cost of a save is the median of the differences.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "cpu_reference/interface/engine.h"
#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/rng.h"
#include "cpu_reference/interface/text.h"
#include "dev/bench/support/program.h"
#include "tokenizer/io/file.h"
#include "tools/cli/openmp_wait.h"
#include "tools/cli/options.h"
#include "tools/train/saver.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

constexpr int kInterval = 100;  // steps, at which the share is given

double median(std::vector<double> values) {
    const auto middle = values.begin() + ptrdiff_t(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

double ms_of(const std::function<void()>& work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

// A directory that is removed at the end.
struct Scratch {
    fs::path path;
    ~Scratch() {
        std::error_code ignored;
        fs::remove_all(path, ignored);
    }
};

void run(const std::vector<std::string>& args) {
    std::string model = "llama:layers=4,dim=256,heads=8,ffn=704,vocab=4096,ctx=128", output = "build";
    int B = 4, T = 128, steps = 16, rounds = 15;
    OptionSet set("bench_saving", "Measures what a checkpoint costs a training: in the background, and while it waits.",
                  {"--rounds 31 --output /tmp"});
    set.add(model, {.name = "model", .unit = "MODEL", .help = "preset or descriptor"});
    set.add(output, {.name = "output", .unit = "DIR", .help = "where a directory is made for the checkpoints"});
    set.add(B, {.name = "batch-size", .help = "sequences in a step", .min = 1, .max = 1024});
    set.add(T, {.name = "sequence-length", .help = "tokens in a sequence", .min = 1, .max = 1 << 20});
    set.add(steps, {.name = "steps", .help = "steps after each save; longer than a save takes", .min = 1, .max = 1e6});
    set.add(rounds, {.name = "rounds", .help = "measurements of each kind", .min = 1, .max = 1e6});
    if (!set.parse(args)) return;

    const EngineOptions engine_options{.B = B, .T = T};
    const std::unique_ptr<Engine> engine = make_engine(parse_model(model), engine_options);
    engine->init_weights(0);
    std::vector<int> tokens(size_t(B) * size_t(T));
    for (size_t i = 0; i < tokens.size(); i++) {
        tokens[i] = int(philox4x32(7, uint32_t(i), 1, 0, 0).v[0] % uint32_t(engine->config().V));
    }
    int64_t step = 0;
    const auto train_step = [&] {
        engine->zero_gradients();
        engine->forward_backward({.tokens = tokens.data(), .targets = tokens.data()}, 1.0f / float(tokens.size()), 0);
        engine->take_loss();
        engine->gradient_norm();
        engine->update({.lr = 1e-5f, .t = ++step});
    };

    const Scratch scratch{fs::path(output) / concat("bench-saving-", ::getpid())};
    make_directories(scratch.path);
    TrainPlan plan{};
    plan.options.output = scratch.path.string();
    plan.options.keep = 1;
    plan.config = engine->config();
    plan.async_save = true;
    const RunLog log(scratch.path, {});
    Saver saver(plan, *engine, &log, [](const std::string&) {});

    enum Kind { without, in_background, waiting, kKinds };
    std::vector<double> step_ms, sums[kKinds], background_ms;
    for (int round = -1; round < rounds; round++) {  // the first one warms up
        for (int i = 0; i < kKinds; i++) {
            const Kind kind = Kind((i + round + 1) % kKinds);  // the order rotates
            double sum = 0;
            const SaveRequest state{step, {{"step", step}}, {}};
            if (kind == waiting) sum += ms_of([&] { saver.save(state); });
            if (kind == in_background) {
                background_ms.push_back(ms_of([&] { saver.save_in_background(state); }));
                sum += background_ms.back();
            }
            for (int s = 0; s < steps; s++) {
                const double ms = ms_of(train_step);
                sum += ms;
                if (kind == without && round >= 0) step_ms.push_back(ms);
            }
            sum += ms_of([&] { saver.wait(); });
            if (round >= 0) sums[kind].push_back(sum);
        }
    }
    const double step_median = median(step_ms);
    std::cout << "saving: " << describe(plan.config) << ", B=" << B << ", T=" << T << ", a checkpoint of "
              << bytes_text(double(state_bytes(plan.config, engine->optimizer()))) << ", on " << engine->device_name()
              << "\n"
              << formatted("  a step takes %.1f ms (median of %zu)\n", step_median, step_ms.size());
    for (const Kind kind : {in_background, waiting}) {
        std::vector<double> costs;
        for (size_t i = 0; i < sums[kind].size(); i++) costs.push_back(sums[kind][i] - sums[without][i]);
        const double cost = median(costs);
        std::cout << formatted("  a save %s costs %.1f ms, %.2f %% of the steps at an interval of %d",
                               kind == in_background ? "in the background" : "that training waits for", cost,
                               100 * cost / (kInterval * step_median), kInterval)
                  << (kind == in_background ? formatted("; %.1f ms of it for the copy\n", median(background_ms))
                                            : "\n");
    }
}

}  // namespace
}  // namespace kiln

int main(int argc, char** argv) {
    kiln::sleep_when_threads_wait(argv);  // like every program of Kiln
    return kiln::bench::run_benchmark("bench_saving", kiln::run, argc, argv);
}
