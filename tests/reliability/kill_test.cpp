// SIGKILL at each call that changes a file.
#include <gtest/gtest.h>

#include "tests/reliability/checkpoint_subject.h"
#include "tests/reliability/conversion_subject.h"
#include "tests/reliability/prepare_subject.h"
#include "tests/reliability/series.h"
#include "tests/reliability/training.h"

namespace kiln {
namespace {

void kill_everywhere(const std::string& name, const Subject& subject, faults::Action action, int64_t stride) {
    Series series(name);
    for (int64_t at = 0; !series.hopeless(); at += stride) {
        subject.reset();
        faults::begin({.root = subject.root(), .action = action, .at = at});
        const ChildEnd end = in_child([&] { return subject.act(); });
        const int64_t durable = faults::durable();
        const std::string hit = faults::hit();
        faults::end();
        if (!end.killed) {
            EXPECT_FALSE(end.failed) << end.text;
            EXPECT_EQ(end.crash, "");
            EXPECT_GE(at, stride) << "nothing was hit";
            break;
        }
        series.add(concat("killed at call ", at, ", ", hit), [&] { return subject.check(durable); });
    }
}

TEST(Kill, at_any_call_of_a_resumed_run_costs_no_checkpoint) {
    const TrainingSubject run(2);
    kill_everywhere("kill before a call, resumed run", run, faults::Action::kill, short_or_long(5, 1));
    kill_everywhere("kill within a write, resumed run", run, faults::Action::kill_within, short_or_long(5, 1));
}

TEST(Kill, at_any_call_of_a_new_run_leaves_one_that_starts) {
    const TrainingSubject run(0);
    kill_everywhere("kill before a call, new run", run, faults::Action::kill, short_or_long(5, 1));
    kill_everywhere("kill within a write, new run", run, faults::Action::kill_within, short_or_long(5, 1));
}

TEST(Kill, at_any_call_while_a_checkpoint_is_replaced_leaves_the_old_or_the_new_one) {
    const CheckpointSubject checkpoint;
    kill_everywhere("kill before a call, replaced checkpoint", checkpoint, faults::Action::kill, 1);
    kill_everywhere("kill within a write, replaced checkpoint", checkpoint, faults::Action::kill_within, 1);
}

TEST(Kill, at_any_call_while_a_model_directory_is_replaced_leaves_the_old_or_the_new_one) {
    const ConversionSubject conversion;
    kill_everywhere("kill before a call, replaced model", conversion, faults::Action::kill, 1);
    kill_everywhere("kill within a write, replaced model", conversion, faults::Action::kill_within, 1);
}

TEST(Kill, at_any_call_of_prepare_leaves_a_run_that_is_resumed) {
    const PrepareSubject prepare;
    kill_everywhere("kill before a call, prepare", prepare, faults::Action::kill, short_or_long(5, 1));
    kill_everywhere("kill within a write, prepare", prepare, faults::Action::kill_within, short_or_long(5, 1));
}

}  // namespace
}  // namespace kiln
