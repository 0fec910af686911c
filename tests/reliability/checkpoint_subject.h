#pragma once
// A checkpoint that is replaced by another one of the same step, and one that is pruned.
#include "tests/reliability/faults.h"
#include "tests/reliability/subject.h"
#include "tests/support/fake_engine.h"
#include "tokenizer/io/file.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/checkpoint/links.h"

namespace kiln {

class CheckpointSubject : public Subject {
public:
    CheckpointSubject() {
        reset();
        act();
        names_ = names_in(root());
    }

    std::string act() const override {
        save(kStep, kNew);
        faults::set_durable(kNew);
        prune_checkpoints(root(), 1, 0);
        const auto newest = newest_checkpoint(root(), nullptr);
        KILN_CHECK(newest, root().string(), ": no checkpoint can be read");
        link_checkpoint(root(), kModelLink, newest->directory);
        return "";
    }

    std::string check(int64_t durable) const override {
        const std::string lost = lost_since(durable);
        if (!lost.empty()) return lost;
        act();
        return difference();
    }

    // Loads the newest complete checkpoint and returns its step, or "" if there is none.
    std::string load() const {
        const auto newest = newest_checkpoint(root(), nullptr);
        FakeEngine loaded = engine();
        if (newest) load_training_state(newest->directory, loaded);
        return newest ? std::to_string(newest->step) : "";
    }

    std::string difference() const override {
        if (names_in(root()) != names_) return concat("it holds ", names_in(root()), ", not ", names_);
        return lost_since(kNew);
    }

private:
    static constexpr int64_t kStep = 7;
    static constexpr int kOld = 1, kNew = 2;  // versions of its weights

    static FakeEngine engine() { return FakeEngine(parse_model("llama:layers=1,dim=8,heads=2,vocab=11,ctx=16")); }
    static FakeEngine engine(int version) {
        FakeEngine filled = engine();
        filled.fill(float(version));
        return filled;
    }
    void save(int64_t step, int version) const {
        save_checkpoint(root(), step, engine(version), {{"version", version}}, {});
    }
    void prepare() const override {
        save(kStep - 1, kOld);
        save(kStep, kOld);
    }

    std::string lost_since(int64_t durable) const {
        const auto newest = newest_checkpoint(root(), nullptr);
        if (!newest) return "no checkpoint is complete";
        if (newest->step != kStep) return "the newest checkpoint is lost";
        FakeEngine loaded = engine();
        load_training_state(newest->directory, loaded);
        const int version = nlohmann::json::parse(read_file(newest->directory / "trainer_state.json")).at("version");
        if (version < durable) return "the one that was written is lost";
        FakeEngine expected = engine(version);
        for (const Arena& arena : FakeEngine::saved()) {
            if (loaded.arena(arena) != expected.arena(arena)) return "other weights than saved";
        }
        return "";
    }

    std::string names_;
};

}  // namespace kiln
