// Samples that fail while a model is trained.
#include <gtest/gtest.h>

#include <array>
#include <sstream>
#include <thread>

#include "cpu_reference/interface/error.h"
#include "tests/support/markov_runs.h"
#include "tests/support/train_run.h"
#include "tokenizer/bpe/trainer.h"
#include "tokenizer/tokenizer.h"

namespace kiln {
namespace {

class Samples : public MarkovRuns {
protected:
    Samples() {
        BpeTrainer trainer({.vocab_size = 258, .special_tokens = {"<|endoftext|>"}});
        trainer.add_text("床前明月光", "text");
        trainer.train().save(directory_ / "tokenizer");
    }
    TrainRun make_run() const {
        TrainRun run(data_->path());
        run.options.model += ",vocab=258";
        run.options.tokenizer = directory_ / "tokenizer";
        run.options.force = true;
        run.options.sample_every = 5;
        return run;
    }
};

// Generates nothing, as if it had no memory for the KV cache.
class MuteEngine : public EngineProxy {
public:
    using EngineProxy::EngineProxy;
    void prefill(int, std::span<const int>, float*) override { throw Error("no memory for the prompt"); }
};

TEST_F(Samples, a_sample_that_fails_does_not_end_the_training) {
    TrainRun run = make_run();
    run.wrap = [](std::unique_ptr<Engine> engine) { return std::make_unique<MuteEngine>(std::move(engine)); };
    std::ostringstream notes;
    run.hooks.notes = &notes;
    EXPECT_EQ(run.run(), TrainOutcome::finished);
    EXPECT_EQ(run.steps.size(), 10u);
    EXPECT_NE(notes.str().find("no sample: no memory for the prompt\n"), std::string::npos) << notes.str();
}

// As if each rank had a part of the weights. Fails when it opens the KV cache, or at a token.
class DividedEngine : public EngineProxy {
public:
    enum class Fails : uint8_t { never, at_first, in_between };
    DividedEngine(std::unique_ptr<Engine> real, Fails fails) : EngineProxy(std::move(real)), fails_(fails) {}
    bool is_divided() const override { return true; }
    void open_cache(int slots, int max_T) override {
        if (slots > 0 && fails_ == Fails::at_first) throw Error("no memory for the KV cache");
        EngineProxy::open_cache(slots, max_T);
    }
    void decode(std::span<const int> slots, std::span<const int> tokens, float* logits) override {
        if (fails_ == Fails::in_between) throw Error("the device is lost");
        EngineProxy::decode(slots, tokens, logits);
    }

private:
    Fails fails_;
};

class DividedSamples : public Samples {
protected:
    using Fails = DividedEngine::Fails;
    // What each of two ranks notes. A rank that throws leaves the other alone, as its program would not.
    std::vector<std::string> notes_of(Fails first, Fails second) {
        const auto ranks = make_thread_communicators(2);
        std::ostringstream notes[2];
        steps_ = {};
        std::vector<std::thread> threads;
        for (const int rank : {0, 1}) {
            threads.emplace_back([&, rank] {
                TrainRun run = make_run();
                run.world = 2;
                run.options.B = 2;
                run.hooks.notes = &notes[rank];
                run.wrap = [&](std::unique_ptr<Engine> engine) {
                    return std::make_unique<DividedEngine>(std::move(engine), rank == 0 ? first : second);
                };
                try {
                    run.run_as(*ranks[size_t(rank)]);
                } catch (const Error& error) {
                    notes[rank] << "threw " << error.what() << "\n";
                }
                steps_[size_t(rank)] = run.steps.size();
            });
        }
        for (std::thread& thread : threads) thread.join();
        return {notes[0].str(), notes[1].str()};
    }

    std::array<size_t, 2> steps_;
};

TEST_F(DividedSamples, one_rank_that_cannot_begin_a_sample_keeps_all_from_it_and_training_goes_on) {
    for (const auto& [first, second] : {std::pair(Fails::never, Fails::at_first),
                                        {Fails::at_first, Fails::never},
                                        {Fails::at_first, Fails::at_first}}) {
        const std::vector<std::string> notes = notes_of(first, second);
        EXPECT_EQ(steps_, (std::array<size_t, 2>{10, 10}));
        EXPECT_EQ(notes[0].find("no sample: no memory for the KV cache") != std::string::npos, first != Fails::never);
        EXPECT_EQ(notes[1].find("rank 1: no sample: no memory for the KV cache") != std::string::npos,
                  second != Fails::never);
    }
}

// When the others wait for its part of the weights.
TEST_F(DividedSamples, a_rank_that_fails_at_a_token_ends_the_run) {
    const std::vector<std::string> notes = notes_of(Fails::in_between, Fails::in_between);
    for (const std::string& note : notes) EXPECT_NE(note.find("threw the device is lost"), std::string::npos) << note;
    EXPECT_EQ(steps_, (std::array<size_t, 2>{5, 5}));
}

}  // namespace
}  // namespace kiln
