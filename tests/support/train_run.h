#pragma once
// A training run inside a test: a small model on a Markov chain, with an output directory of the test.
#include <omp.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/engine_proxy.h"
#include "tests/support/markov_data.h"
#include "tests/support/temp_directory.h"
#include "tokenizer/io/file.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/train/run_directory.h"
#include "tools/train/trainer.h"

namespace kiln {

struct TrainRun {
    TrainOptions options;
    int world = 1;
    std::string config_toml;  // that the trainer writes; empty: nothing
    std::function<std::unique_ptr<Engine>(std::unique_ptr<Engine>)> wrap = [](std::unique_ptr<Engine> engine) {
        return std::make_unique<EngineProxy>(std::move(engine));
    };
    Trainer::Hooks hooks;
    std::ostream* notes = nullptr;  // what the plan reports; null: nowhere

    // The results of the run.
    std::vector<StepReport> steps;
    TrainProgress progress;
    std::vector<float> weights;

    explicit TrainRun(const std::filesystem::path& data, const std::filesystem::path& output = {}) {
        options.data = data.string();
        options.output = output.string();
        options.model = "llama:layers=1,dim=16,heads=2,kv_heads=1,ctx=16,dropout=0.1";
        options.B = 4;
        options.T = 16;
        options.learning_rate = 0.01;
        options.val_every = 0;
        options.checkpoint_every = 0;
        options.keep = 0;
        options.max_steps = 10;
    }

    TrainPlan plan() const {
        TrainPlan plan = make_plan(options, true, world, [this](const std::string& text) {
            if (notes) *notes << text << "\n";
        });
        plan.values = {{"learning-rate", std::to_string(options.learning_rate)}};
        plan.config_toml = config_toml;
        return plan;
    }

    TrainOutcome run() {
        const auto communicator = make_single_communicator();
        return run_as(*communicator);
    }

    TrainOutcome run_as(Communicator& communicator) {
        // These models are too small for two threads, which would wait for each other on a busy machine.
        omp_set_num_threads(1);
        const TrainPlan p = plan();
        std::optional<RunLock> lock;
        if (!options.output.empty() && communicator.rank() == 0) lock.emplace(prepare_run_directory(p));
        const auto engine = wrap(make_engine(p.config, p.engine_options(), &communicator));
        Trainer::Hooks all = hooks;
        all.on_step = [&](const StepReport& report) {
            steps.push_back(report);
            if (hooks.on_step) hooks.on_step(report);
        };
        Trainer trainer(p, *engine, communicator, all);
        const TrainOutcome outcome = trainer.run();
        progress = trainer.progress();
        weights.resize(size_t(count_parameters(p.config)));
        engine->read(Arena::params, 0, weights);
        return outcome;
    }
};

}  // namespace kiln
