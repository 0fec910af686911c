#include "tools/train/outlier.h"

#include <gtest/gtest.h>

#include <cmath>

namespace kiln {
namespace {

// 128 values with mean 1 and deviation 2.
OutlierWindow full_window() {
    OutlierWindow window;
    for (size_t i = 0; i < OutlierWindow::kSize; i++) {
        EXPECT_TRUE(std::isnan(window.add(i % 2 ? 3.0 : -1.0))) << i;
    }
    return window;
}

TEST(OutlierWindow, z_scores_of_a_full_window_follow_the_definition) {
    OutlierWindow window = full_window();
    // The new value replaces one -1: mean and variance are those of the other 127 values and the new one.
    const double mean = (64 * 3.0 + 63 * -1.0 + 9.0) / 128;
    const double variance = (64 * std::pow(3 - mean, 2) + 63 * std::pow(-1 - mean, 2) + std::pow(9 - mean, 2)) / 128;
    EXPECT_NEAR(window.add(9.0), (9 - mean) / std::sqrt(variance), 1e-12);
}

TEST(OutlierWindow, equal_values_have_z_score_0) {
    OutlierWindow window;
    for (int i = 0; i < 200; i++) window.add(0.0);
    EXPECT_EQ(window.add(0.0), 0);
}

TEST(OutlierWindow, values_that_are_not_finite_do_not_change_it) {
    OutlierWindow window = full_window(), same = full_window();
    for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) EXPECT_TRUE(std::isnan(window.add(bad)));
    EXPECT_EQ(window.values(), same.values());
    EXPECT_EQ(window.add(5.0), same.add(5.0));
}

TEST(OutlierWindow, a_copy_made_from_its_values_gives_the_same_bits) {
    OutlierWindow window;
    for (int i = 0; i < 300; i++) {
        const OutlierWindow copy(window.values());
        OutlierWindow resumed = copy;
        const double value = std::sin(i * 0.7) * 3 + 1.0 / (i + 1), z = window.add(value);
        const double again = resumed.add(value);
        if (std::isnan(z)) {
            EXPECT_TRUE(std::isnan(again));
        } else {
            EXPECT_EQ(z, again);
        }
    }
    EXPECT_EQ(window.values().size(), OutlierWindow::kSize);
}

}  // namespace
}  // namespace kiln
