// A power cut after each call that changes a file. The calls are recorded, and a model of a disk says what may be left.
#include "tests/reliability/power_cut.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/reliability/checkpoint_subject.h"
#include "tests/reliability/conversion_subject.h"
#include "tests/reliability/prepare_subject.h"
#include "tests/reliability/series.h"
#include "tests/reliability/training.h"

namespace kiln {
namespace {

using faults::Operation;

void cut_everywhere(const std::string& name, const Subject& subject, size_t trees_of_a_cut) {
    Series series(name);
    subject.reset();
    PowerCut disk(subject.root());
    faults::begin({.root = subject.root(), .record = true});
    subject.act();
    const std::vector<Operation> operations = faults::recorded();
    faults::end();
    EXPECT_EQ(subject.difference(), "");

    std::mt19937 random(1);
    std::set<std::string> seen;
    int64_t durable = -1;
    for (size_t i = 0; i < operations.size(); i++) {
        const Operation& last = operations[i];
        disk.apply(last);
        if (last.kind == Operation::durable) durable = int64_t(last.offset);
        disk.for_each_tree(trees_of_a_cut, random, [&](const PowerCut::Tree& tree) {
            if (!seen.insert(key_of(tree) + " " + std::to_string(durable)).second) return;
            write_tree(tree, subject.root());
            series.add(concat("after call ", i, ", ", int(last.kind), " ", last.path),
                       [&] { return subject.check(durable); });
        });
    }
    EXPECT_GT(series.attempts(), 20);
}

TEST(PowerCut, at_any_call_of_a_resumed_run_costs_no_checkpoint) {
    cut_everywhere("power cut, resumed run", TrainingSubject(2), short_or_long(2, 4096));
}

TEST(PowerCut, at_any_call_of_a_new_run_costs_no_checkpoint) {
    cut_everywhere("power cut, new run", TrainingSubject(0), short_or_long(2, 4096));
}

TEST(PowerCut, at_any_call_while_a_checkpoint_is_replaced_leaves_the_old_or_the_new_one) {
    cut_everywhere("power cut, replaced checkpoint", CheckpointSubject(), short_or_long(8, 4096));
}

TEST(PowerCut, at_any_call_while_a_model_directory_is_replaced_leaves_the_old_or_the_new_one) {
    cut_everywhere("power cut, replaced model", ConversionSubject(), short_or_long(8, 4096));
}

TEST(PowerCut, at_any_call_of_prepare_leaves_a_run_that_is_resumed) {
    cut_everywhere("power cut, prepare", PrepareSubject(), short_or_long(2, 4096));
}

}  // namespace
}  // namespace kiln
