// Each call that reads or changes a file fails, or writes only a part.
#include <gtest/gtest.h>

#include <cstring>

#include "tests/reliability/checkpoint_subject.h"
#include "tests/reliability/conversion_subject.h"
#include "tests/reliability/prepare_subject.h"
#include "tests/reliability/series.h"
#include "tests/reliability/training.h"

namespace kiln {
namespace {

// What may fail without a word: something old or temporary is not removed or not read, and where names cannot be
// exchanged there is another way.
bool may_be_silent(const std::string& hit) {
    return hit.starts_with("exchange") || hit.starts_with("unlink") || hit.starts_with("rmdir") ||
           hit.starts_with("read") || hit.starts_with("open");
}

std::string problem_of(const Subject& subject, const faults::Fault& fault, const ChildEnd& end, const std::string& hit,
                       int64_t durable) {
    if (!end.crash.empty() || end.killed) return "it crashed: " + end.crash;
    // Interrupted calls and short writes are nobody's business.
    if (fault.action == faults::Action::shorten || fault.error == EINTR) {
        return end.failed ? "it failed: " + end.text : subject.difference();
    }
    const std::string reason = std::strerror(fault.error);
    if (end.failed && end.text.find(subject.root()) == end.text.npos) return "it names no file: " + end.text;
    if (!may_be_silent(hit) && end.text.find(reason) == end.text.npos) return "nobody learns of it: " + end.text;
    subject.let_lines_be_missing(hit.ends_with("/main.log") || hit.ends_with("/metrics.jsonl"));
    const std::string problem = subject.check(durable);
    subject.let_lines_be_missing(false);
    return problem;
}

void fail_everywhere(const std::string& name, const Subject& subject, faults::Fault fault, int64_t stride) {
    Series series(name);
    fault.root = subject.root();
    for (fault.at = 0; !series.hopeless(); fault.at += stride) {
        subject.reset();
        faults::begin(fault);
        const ChildEnd end = in_child([&] { return subject.act(); });
        const int64_t durable = faults::durable();
        const std::string hit = faults::hit();
        faults::end();
        if (hit.empty()) {
            EXPECT_FALSE(end.failed) << end.text;
            EXPECT_EQ(end.crash, "");
            EXPECT_GE(fault.at, stride) << "nothing was hit";
            break;
        }
        series.add(concat("call ", fault.at, ", ", hit), [&] { return problem_of(subject, fault, end, hit, durable); });
    }
}

void fail_in_each_way(const std::string& name, const Subject& subject, int64_t stride) {
    const auto fail = [&](const char* how, int error, bool lasting = false) {
        fail_everywhere(concat(how, ", ", name), subject,
                        {.action = faults::Action::fail, .error = error, .lasting = lasting}, stride);
    };
    fail("EIO", EIO);
    fail("ENOSPC", ENOSPC);
    fail("ENOSPC from then on", ENOSPC, true);
    fail("EDQUOT", EDQUOT);
    fail("EROFS from then on", EROFS, true);
    fail("EINTR", EINTR);
    fail_everywhere("short write, " + name, subject, {.action = faults::Action::shorten}, stride);
}

TEST(FailingCalls, of_a_resumed_run_are_reported_and_cost_no_checkpoint) {
    fail_in_each_way("resumed run", TrainingSubject(2), short_or_long(17, 1));
}

TEST(FailingCalls, of_a_new_run_are_reported_and_leave_one_that_starts) {
    fail_in_each_way("new run", TrainingSubject(0), short_or_long(17, 1));
}

TEST(FailingCalls, while_a_checkpoint_is_replaced_leave_the_old_or_the_new_one) {
    fail_in_each_way("replaced checkpoint", CheckpointSubject(), short_or_long(3, 1));
}

TEST(FailingCalls, while_a_model_directory_is_replaced_leave_the_old_or_the_new_one) {
    fail_in_each_way("replaced model", ConversionSubject(), short_or_long(3, 1));
}

TEST(FailingCalls, of_prepare_are_reported_and_leave_a_run_that_is_resumed) {
    fail_in_each_way("prepare", PrepareSubject(), short_or_long(17, 1));
}

}  // namespace
}  // namespace kiln
