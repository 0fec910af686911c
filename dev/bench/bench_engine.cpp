// Kiln's worker for `make bench`. For each line "run" on standard input it does one training step or one generation and
// answers with the milliseconds. dev/bench/bench.py interleaves it with PyTorch's worker, which has the same protocol,
// so that both run on the same machine in the same minute. dev/bench/bench_ranks.py compares one with several of them.
#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cpu_reference/interface/engine.h"
#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/rng.h"
#include "dev/bench/support/program.h"
#include "tools/cli/openmp_wait.h"
#include "tools/cli/options.h"

namespace kiln {
namespace {

using nlohmann::json;

// The fields that dev/bench/peers/pytorch_model.py reads: one description makes both models.
json to_json(const ModelConfig& c) {
    return {{"L", c.L},
            {"C", c.C},
            {"NH", c.NH},
            {"NKV", c.NKV},
            {"HS", c.HS},
            {"F", c.F},
            {"V", c.V},
            {"max_T", c.max_T},
            {"norm", name_of(c.norm)},
            {"mlp", name_of(c.mlp)},
            {"position", name_of(c.position)},
            {"qkv_bias", c.qkv_bias},
            {"linear_bias", c.linear_bias},
            {"tied_embeddings", c.tied_embeddings},
            {"norm_eps", c.norm_eps},
            {"rope_theta", c.rope_theta}};
}

std::vector<int> random_tokens(int n, int V, uint32_t stream) {
    std::vector<int> tokens(n);
    for (int i = 0; i < n; i++) tokens[i] = int(philox4x32(7, uint32_t(i), stream, 0, 0).v[0] % uint32_t(V));
    return tokens;
}

size_t peak_bytes() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);) {
        if (line.rfind("VmHWM:", 0) == 0) return size_t(std::stoll(line.substr(6))) * 1024;
    }
    return 0;
}

// One training step: forward, backward, norm, clipping, AdamW. Returns the mean loss of this rank, which has B of the
// sequences of the step.
class Trainer {
public:
    Trainer(Engine& engine, Communicator& ranks, int B, int T)
        : engine_(engine),
          ranks_(ranks),
          tokens_(random_tokens(B * T, engine.config().V, 1)),
          targets_(random_tokens(B * T, engine.config().V, 2)) {}

    double operator()() {
        engine_.zero_gradients();
        engine_.forward_backward({.tokens = tokens_.data(), .targets = targets_.data(), .last = true},
                                 1.0f / float(tokens_.size() * size_t(ranks_.size())), 0);
        const LossSum loss = engine_.take_loss();
        const double norm = engine_.gradient_norm();
        engine_.update({.lr = 1e-4f, .grad_scale = norm > 1 ? float(1 / norm) : 1.0f, .t = ++t_});
        ranks_.barrier();
        return loss.sum / double(loss.tokens);
    }

private:
    Engine& engine_;
    Communicator& ranks_;
    std::vector<int> tokens_, targets_;
    int64_t t_ = 0;
};

// `count` greedy tokens after a prompt, batch 1, with the KV cache. Returns the last token.
class Generator {
public:
    Generator(Engine& engine, int prompt, int count)
        : engine_(engine),
          prompt_(random_tokens(prompt, engine.config().V, 3)),
          count_(count),
          logits_(engine.config().V) {
        engine_.open_cache(1, prompt + count);
    }

    double operator()() {
        const int slot = 0;
        engine_.clear_slot(slot);
        engine_.prefill(slot, prompt_, logits_.data());
        int token = best();
        for (int i = 1; i < count_; i++) {
            engine_.decode({&slot, 1}, {&token, 1}, logits_.data());
            token = best();
        }
        return token;
    }

private:
    int best() const { return int(std::max_element(logits_.begin(), logits_.end()) - logits_.begin()); }

    Engine& engine_;
    std::vector<int> prompt_;
    int count_;
    std::vector<float> logits_;  // (V)
};

// Rank 0 alone reads and writes.
void answer(const Communicator& ranks, const json& line) {
    if (ranks.rank() == 0) std::cout << line.dump() << std::endl;
}

// Whether there is one more command, and which, on every rank.
bool next_command(Communicator& ranks, std::string& command) {
    uint64_t size = ranks.rank() == 0 && std::getline(std::cin, command) ? command.size() + 1 : 0;
    ranks.broadcast(&size, sizeof size, 0);
    if (size == 0) return false;
    command.resize(size - 1);
    ranks.broadcast(command.data(), command.size(), 0);
    return true;
}

void serve(Communicator& ranks, const std::function<double()>& work) {
    for (std::string command; next_command(ranks, command);) {
        if (command == "run") {
            const auto start = std::chrono::steady_clock::now();
            const double value = work();
            const std::chrono::duration<double, std::milli> ms = std::chrono::steady_clock::now() - start;
            answer(ranks, {{"ms", ms.count()}, {"value", value}});
        } else if (command == "peak") {
            answer(ranks, {{"peak_bytes", peak_bytes()}});
        } else {
            throw UsageError(concat("unknown command '", command, "'; the commands are run and peak"));
        }
    }
}

void run(const std::vector<std::string>& args) {
    std::string workload, model;
    int first = 0, second = 0;
    bool mpi = false;
    OptionSet set("bench_engine", "Answers each line 'run' with the milliseconds of one training step or generation.",
                  {"step gpt-13m 8 256 <<<run", "gen gpt-13m 16 64 <<<run"});
    set.add_positional(workload, {.name = "workload",
                                  .unit = "WORKLOAD",
                                  .help = "step: a training step; gen: a generation",
                                  .choices = {"step", "gen"},
                                  .required = true});
    set.add_positional(model, {.name = "model", .unit = "MODEL", .help = "preset or descriptor", .required = true});
    set.add_positional(first, {.name = "first",
                               .unit = "B|PROMPT",
                               .help = "sequences in the batch, or tokens in the prompt",
                               .min = 1,
                               .required = true});
    set.add_positional(second, {.name = "second",
                                .unit = "T|NEW_TOKENS",
                                .help = "tokens in a sequence, or tokens to generate",
                                .min = 1,
                                .required = true});
    set.add(mpi, {.name = "mpi", .help = "one of mpirun's ranks; they divide the batch"});
    if (!set.parse(args)) return;
    const bool training = workload == "step";
    const std::unique_ptr<Communicator> ranks = mpi ? make_mpi_communicator() : make_single_communicator();
    if (first % ranks->size() != 0 || (mpi && !training)) {
        throw UsageError(concat(ranks->size(), " ranks cannot divide this work"));
    }
    const int B = first / ranks->size();
    const ModelConfig config = parse_model(model);
    const EngineOptions options{.B = training ? B : 1, .T = training ? second : first + second, .training = training};
    size_t planned_bytes = 0;
    for (const MemoryItem& item : plan_memory(config, options)) planned_bytes += item.bytes;
    const std::unique_ptr<Engine> engine = make_engine(config, options, ranks.get());
    engine->init_weights(0);
    answer(*ranks, {{"config", to_json(config)},
                    {"parameters", count_parameters(config)},
                    {"planned_bytes", planned_bytes},
                    {"device", engine->device_name()}});
    if (training) {
        serve(*ranks, Trainer(*engine, *ranks, B, second));
    } else {
        serve(*ranks, Generator(*engine, first, second));
    }
}

}  // namespace
}  // namespace kiln

int main(int argc, char** argv) {
    kiln::sleep_when_threads_wait(argv);  // like every program of Kiln
    return kiln::bench::run_benchmark("bench_engine", kiln::run, argc, argv);
}
