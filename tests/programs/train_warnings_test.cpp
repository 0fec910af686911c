// What train_gpt2 warns of, refuses or leaves alone although every option is allowed.
#include <gtest/gtest.h>

#include "cpu_reference/interface/error.h"
#include "tests/support/train_program.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

class TrainWarnings : public TrainProgram {  // its training data are 248 sequences of 16 tokens
protected:
    Args base() const {
        return {"-i", data(), "-e", "llama:layers=1,dim=16,heads=2,ctx=16", "--threads", "1", "--dry-run"};
    }
    std::string notes_of(const Args& more) const {
        const Finished result = train_cpu(base() + more);
        EXPECT_EQ(result.code, 0) << result.err;
        return result.err;
    }
};

TEST_F(TrainWarnings, a_step_that_repeats_rows_is_named_with_the_batch_that_does_not) {
    const auto warns = [&](const Args& more, const std::string& text) {
        const std::string notes = notes_of(more);
        EXPECT_NE(notes.find(text), std::string::npos) << text << "\n" << notes;
    };
    const std::string repeats = ", but the data has only 248, so a step repeats some of them; give ";
    warns({"-b", "300"}, concat("warning: a step takes 300 sequences", repeats, "--batch-size (-b) 248 or less"));
    warns({"-b", "4", "-d", "16000"},
          concat("a step takes 1000 sequences", repeats, "--total-batch-size (-d) 3968 or less"));
    warns({"-b", "1000"}, "the run has only 1 step: 1 times 248 sequences, 1000 in a step; set more with ");
    warns({"-b", "100"}, "the run has only 2 steps: 1 times 248 sequences, 100 in a step");
    EXPECT_EQ(notes_of({"-b", "248", "-x", "100"}).find("warning"), std::string::npos);
}

TEST_F(TrainWarnings, more_threads_than_processors_are_not_used) {
    EXPECT_NE(notes_of({"--threads", "1024"}).find("note: --threads 1024: "), std::string::npos);
    setenv("OMP_NUM_THREADS", "1024", 1);
    EXPECT_NE(notes_of({"--threads", "0"}).find("note: OMP_NUM_THREADS 1024: "), std::string::npos);
    unsetenv("OMP_NUM_THREADS");
}

TEST_F(TrainWarnings, a_warm_up_as_long_as_the_run_is_named) {
    const std::string warning =
        "warning: --warmup-steps (-u) 700 is not below the 300 steps of the run, so the schedule never begins; give "
        "-u 30 or less";
    EXPECT_NE(notes_of({"-x", "300", "-u", "700"}).find(warning), std::string::npos);
    EXPECT_EQ(notes_of({"-x", "300", "-u", "299"}).find("warning"), std::string::npos);
    EXPECT_NE(notes_of({"-x", "5", "-u", "5"}).find("never begins; give -u 0\n"), std::string::npos);
    EXPECT_NE(notes_of({"-u", "62"}).find("the 62 steps of the run"), std::string::npos);  // 248 sequences, 4 a step
}

TEST_F(TrainWarnings, without_a_model_three_that_fit_are_shown_and_each_works) {
    const Finished result = train_cpu({"-i", data(), "--threads", "1"});
    EXPECT_EQ(result.code, 2);
    EXPECT_NE(result.err.find("--model (-e) is required: the model to train. These fit 4.0k tokens of data and this "
                              "machine:\n  -e llama:layers=2,dim=64"),
              std::string::npos)
        << result.err;
    size_t lines = 0;
    for (size_t at = 0; (at = result.err.find("\n  -e ", at)) != std::string::npos; lines++) {
        at += 6;
        const std::string model = result.err.substr(at, result.err.find(' ', at) - at);
        EXPECT_EQ(train_cpu({"-i", data(), "-e", model, "--dry-run"}).code, 0) << model;
    }
    EXPECT_EQ(lines, 3u);
    const Finished large = train_cpu({"--dry-run", "--memory", "999GiB"});
    EXPECT_NE(large.err.find("-e gpt2-xl"), std::string::npos) << large.err;
    const Finished smaller = train_cpu({"--dry-run", "--memory", "1GiB"});
    EXPECT_EQ(smaller.err.find("-e gpt2"), std::string::npos) << smaller.err;
}

TEST_F(TrainWarnings, batch_size_auto_leaves_an_epoch_fifty_steps) {
    EXPECT_NE(notes_of({"-b", "auto"}).find("micro-batch: 4; the data has too few for more\n"), std::string::npos);
    EXPECT_NE(notes_of({"-b", "auto", "-d", "16000"}).find("micro-batch: 200\n"), std::string::npos);
    // The validation data are 37 sequences.
    EXPECT_NE(notes_of({"-b", "auto", "--eval-only"}).find("micro-batch: 37; "), std::string::npos);
}

}  // namespace
}  // namespace kiln
