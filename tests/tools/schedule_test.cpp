#include "tools/train/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

namespace kiln {
namespace {

Schedule schedule(const std::string& name) {
    return {.peak = 0.01,
            .warmup_steps = 10,
            .total_steps = 110,
            .final_fraction = 0.1,
            .decay_fraction = 0.2,
            .rate = find_schedule(name)};
}

TEST(Schedule, warm_up_is_linear_and_ends_at_the_peak) {
    for (const std::string& name : schedule_names()) {
        EXPECT_FLOAT_EQ(learning_rate(schedule(name), 0), 0.001f);
        EXPECT_FLOAT_EQ(learning_rate(schedule(name), 4), 0.005f);
        EXPECT_FLOAT_EQ(learning_rate(schedule(name), 9), 0.01f);
        EXPECT_FLOAT_EQ(learning_rate(schedule(name), 10), 0.01f);
    }
}

TEST(Schedule, values_are_the_formulas) {
    EXPECT_FLOAT_EQ(learning_rate(schedule("constant"), 109), 0.01f);
    EXPECT_FLOAT_EQ(learning_rate(schedule("linear"), 35), 0.01f - 0.009f * 0.25f);
    EXPECT_FLOAT_EQ(learning_rate(schedule("cosine"), 60), 0.0055f);  // half-way
    EXPECT_FLOAT_EQ(learning_rate(schedule("cosine"), 35), float(0.001 + 0.009 * (1 + std::sqrt(0.5)) / 2));
    // wsd falls in the last fifth, from step 88 on, by one minus a square root.
    EXPECT_FLOAT_EQ(learning_rate(schedule("wsd"), 87), 0.01f);
    EXPECT_FLOAT_EQ(learning_rate(schedule("wsd"), 88), 0.01f);
    EXPECT_FLOAT_EQ(learning_rate(schedule("wsd"), 99), float(0.001 + 0.009 * (1 - std::sqrt(0.5))));
}

TEST(Schedule, the_end_is_the_final_fraction_and_stays) {
    for (const char* name : {"linear", "cosine", "wsd"}) {
        EXPECT_FLOAT_EQ(learning_rate(schedule(name), 110), 0.001f);
        EXPECT_FLOAT_EQ(learning_rate(schedule(name), 5000), 0.001f);
    }
}

TEST(Schedule, never_rises_after_the_warm_up) {
    for (const std::string& name : schedule_names()) {
        for (int step = 10; step < 120; step++) {
            EXPECT_LE(learning_rate(schedule(name), step + 1), learning_rate(schedule(name), step)) << step;
        }
    }
}

TEST(Schedule, a_run_with_only_a_warm_up_stays_finite) {
    for (const std::string& name : schedule_names()) {
        Schedule s = schedule(name);
        s.total_steps = 10;
        for (int step = 0; step < 20; step++) {
            EXPECT_TRUE(std::isfinite(learning_rate(s, step)));
            EXPECT_GT(learning_rate(s, step), 0);
        }
    }
}

}  // namespace
}  // namespace kiln
