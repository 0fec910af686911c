// Somebody removes the run directory, or all that is in it, at each call of a save.
#include <gtest/gtest.h>

#include <optional>

#include "tests/reliability/faults.h"
#include "tests/reliability/series.h"
#include "tests/support/fake_engine.h"
#include "tests/support/temp_directory.h"
#include "tokenizer/io/file.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/checkpoint/names.h"
#include "tools/train/saver.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

constexpr char kSettings[] = "seed = 7\n";

// Saves step 2 of a run that has step 1. What was noted, and the error that ends the training if the run is gone.
std::string save_in(const fs::path& run, const faults::Fault& fault) {
    FakeEngine engine(parse_model("llama:layers=1,dim=8,heads=2,vocab=11,ctx=16"));
    TrainPlan of_run{.config = engine.config(), .config_toml = kSettings};
    of_run.options.output = run.string();
    of_run.files.files = {{"tokenizer.json", "{}"}};
    make_directories(run);
    write_file_atomic(run / kConfigFile, kSettings);
    const RunLog log(run, {});
    std::string said;
    const auto note = [&](const std::string& text) { said += text + "; "; };
    Saver saver(of_run, engine, &log, note);
    saver.save({1, {{"step", 1}}, {}});
    faults::begin(fault);
    try {
        saver.save({2, {{"step", 2}}, {}});
    } catch (const Error& error) {
        note(error.what());
    }
    return said;
}

// What is wrong with the directory; "": nothing.
std::string problem_in(const fs::path& run) {
    const auto newest = newest_checkpoint(run, nullptr);
    if (!newest || newest->step != 2) return "step 2 is not saved";
    if (!fs::exists(run / kConfigFile)) return "config.toml is not there";
    return read_file(run / kConfigFile) == kSettings ? "" : "config.toml is another one";
}

void remove_at_each_call(const std::string& name, faults::Action action) {
    Series series(name);
    for (int64_t at = 0;; at += short_or_long(4, 1)) {
        const TempDirectory directory;
        const fs::path run = directory / "run";
        const std::string said = save_in(run, {.root = run, .action = action, .at = at});
        const std::string hit = faults::hit();
        faults::end();
        if (hit.empty()) break;
        // When the checkpoint is there and its name is on the disk, the save is done: who then removes it, means it.
        if (const size_t end = said.find("checkpoint " + (run / checkpoint_name(2)).string()); end != said.npos) {
            if (!fs::exists(run / checkpoint_name(2))) continue;
        }
        series.add(concat("call ", at, ", ", hit), [&] {
            const std::string problem = problem_in(run);
            return problem.empty() ? "" : concat(problem, ": ", said);
        });
    }
    EXPECT_GT(series.attempts(), 10);
}

TEST(Removal, of_the_run_directory_at_any_call_of_a_save_loses_nothing) {
    remove_at_each_call("rm -rf RUN during a save", faults::Action::remove);
}

TEST(Removal, of_all_files_of_a_run_at_any_call_of_a_save_loses_nothing) {
    remove_at_each_call("rm -rf RUN/* during a save", faults::Action::empty);
}

}  // namespace
}  // namespace kiln
