#include "cpu_reference/interface/text.h"
#include "cpu_reference/interface/error.h"

#include <gtest/gtest.h>

#include <cmath>

namespace kiln {
namespace {

TEST(Text, durations_have_two_units) {
    EXPECT_EQ(duration_text(59.4), "59s");
    EXPECT_EQ(duration_text(3725), "1h 02m");
    EXPECT_EQ(duration_text(90000), "1d 01h");
    EXPECT_EQ(duration_text(NAN), "?");
}

TEST(Text, nearest_counts_a_swap_of_neighbours_as_one) {
    EXPECT_EQ(nearest("modle", {"mode", "model"}), "mode");  // one letter deleted; the first of equal ones
    EXPECT_EQ(nearest("lera", {"leaf", "lear"}), "lear");    // one swap is nearer than two changes
    EXPECT_EQ(nearest("x", {}), "");
}

TEST(Text, lists_are_split_at_commas_and_joined) {
    EXPECT_EQ(split_at_commas({"a, b ,c", " d", ""}), (std::vector<std::string>{"a", "b", "c", "d"}));
    for (const char* list : {",", "a,", ",a", "a,,b", "a, ,b", " "}) {
        EXPECT_THROW(split_at_commas({list}), UsageError) << list;
    }
    EXPECT_EQ(join({"", "b", "c"}, ", "), ", b, c");
    EXPECT_EQ(padded("ab", 4), "ab  ");
    EXPECT_EQ(padded("abcd", 4), "abcd ");
}

}  // namespace
}  // namespace kiln
