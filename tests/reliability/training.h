#pragma once
// A training run of four steps that is interrupted and resumed.
#include <map>
#include <sstream>

#include "tests/reliability/faults.h"
#include "tests/reliability/subject.h"
#include "tests/support/train_run.h"

namespace kiln {

class TrainingSubject : public Subject {
public:
    // `done`: the step of the run's checkpoint; 0 for a run that does not exist yet.
    explicit TrainingSubject(int64_t done) : done_(done) {
        write_markov_shards(data(), 4000, 600);
        TrainRun all = make_run(directory_ / "all");
        all.options.keep = 0;
        all.run();
        for (const CheckpointRef& checkpoint : list_checkpoints(directory_ / "all")) {
            weights_[checkpoint.step] = weights_of(checkpoint.directory);
        }
        make_run(directory_ / "uninterrupted").run();
        if (done_ > 0) {
            TrainRun first = make_run(directory_ / "begun");
            first.hooks.stop_requested = [&] {
                return first.progress.step >= done_ || int64_t(first.steps.size()) >= done_;
            };
            first.run();
        }
    }

    // A new run must also create the parent directories of its run directory.
    std::filesystem::path run() const { return done_ > 0 ? root() / "run" : root() / "new" / "run"; }

    // Trains to the end. Each checkpoint that it says it has written must not be lost. Returns its other notes.
    std::string train(bool resume) const {
        Notes notes;
        std::ostream stream(&notes);
        TrainRun run = make_run(this->run());
        run.options.resume = resume;
        run.hooks.notes = &stream;
        run.run();
        return notes.others;
    }
    std::string act() const override { return train(done_ > 0); }

    // The newest checkpoint must be complete, and of step `durable` or later; the weights, logs and files of the
    // resumed run must be identical to those of the uninterrupted one.
    std::string check(int64_t durable) const override {
        const auto newest = newest_checkpoint(run(), nullptr);
        const int64_t least = std::max(durable, done_);
        if (!newest && least > 0) return concat("no checkpoint is complete; that of step ", least, " was written");
        if (newest && newest->step < least) return concat("the newest is ", newest->step, ", not ", least);
        if (newest && weights_of(newest->directory) != weights_.at(newest->step)) return "other weights than saved";
        train(newest.has_value());
        return difference();
    }

    // Compares the finished run with the uninterrupted one.
    std::string difference() const override {
        const std::filesystem::path a = run(), b = directory_ / "uninterrupted";
        if (names_in(a) != names_in(b)) return concat("it holds ", names_in(a), ", not ", names_in(b));
        for (const char* name :
             {"checkpoint-00000004/model.safetensors", "checkpoint-00000004/optimizer.safetensors"}) {
            if (read_file(a / name) != read_file(b / name)) return concat(name, " differs");
        }
        for (const char* name : {"main.log", "metrics.jsonl"}) {
            const std::vector<std::string> now = lines_of(a / name), all = lines_of(b / name);
            if (lines_may_be_missing_ ? !std::ranges::includes(all, now) : now != all) {
                return concat(name, " differs: ", read_file(a / name));
            }
        }
        return error_of([&] { verify_checkpoint(a / "checkpoint-00000004"); });
    }

private:
    // Takes the step out of each line "checkpoint PATH-STEP".
    struct Notes : std::stringbuf {
        std::string others;
        int sync() override {
            const std::string line = str();
            if (line.starts_with("checkpoint /")) {
                faults::set_durable(std::stoll(line.substr(line.rfind('-') + 1)));
            } else {
                others += line;
            }
            str("");
            return 0;
        }
    };

    std::filesystem::path data() const { return directory_ / "data"; }

    void prepare() const override {
        namespace fs = std::filesystem;
        constexpr auto kAll = fs::copy_options::recursive | fs::copy_options::copy_symlinks;
        if (done_ > 0) fs::copy(directory_ / "begun", run(), kAll);
    }

    TrainRun make_run(const std::filesystem::path& output) const {
        TrainRun run(data(), output);
        run.options.model = "llama:layers=1,dim=8,heads=2,kv_heads=1,ffn=12,ctx=8,dropout=0.1";
        run.config_toml = "# train_gpt2, in a test\n";
        run.options.B = 1;
        run.options.T = 8;
        run.options.max_steps = 4;
        // One save for a new run, one for each step of a resumed one.
        run.options.checkpoint_every = done_ > 0 ? 1 : 4;
        run.options.keep = 1;
        run.options.val_every = 2;
        run.options.val_max_batches = 1;
        return run;
    }

    static std::string weights_of(const std::filesystem::path& checkpoint) {
        return read_file(checkpoint / "model.safetensors") + read_file(checkpoint / "optimizer.safetensors");
    }

    // The lines of a log without measured times, and sorted if they are compared as sets.
    std::vector<std::string> lines_of(const std::filesystem::path& log) const {
        std::vector<std::string> lines;
        std::istringstream in(read_file(log));
        for (std::string line; std::getline(in, line);) {
            auto json = nlohmann::json::parse(line, nullptr, false);
            for (const char* name : {"ms", "tokens_per_second", "mfu", "memory_bytes"}) {
                if (json.is_object()) json.erase(name);
            }
            lines.push_back(json.is_object() ? json.dump() : line);
        }
        if (lines_may_be_missing_) std::ranges::sort(lines);
        return lines;
    }

    const int64_t done_;
    std::map<int64_t, std::string> weights_;
};

}  // namespace kiln
