// Any metrics.jsonl gives a picture or an error, in bounded time and memory, and the picture is always XML.
#include "tools/train/loss_curve.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cpu_reference/interface/error.h"
#include "tests/support/temp_directory.h"

namespace kiln {
namespace {

// The picture of a run with these metrics, or the message after the line's number.
std::string picture_of(const std::string& metrics) {
    const TempDirectory run;
    run.write("metrics.jsonl", metrics);
    try {
        return loss_svg(read_loss_curve(run.path()), "x");
    } catch (const Error& error) {
        const std::string what = error.what(), file = (run / "metrics.jsonl:").string();
        EXPECT_TRUE(what.starts_with(file)) << what;
        return what.substr(file.size());
    }
}

TEST(LossCurveFiles, a_line_that_is_no_step_with_losses_is_an_error) {
    const std::pair<std::string, std::string> kCases[] = {
        {"{\"step\":9007199254740993,\"val_loss\":3}\n",
         "1: not a line of metrics: {\"step\":9007199254740993,\"val_loss\":3}"},
        {"{\"step\":1}\n{\"step\":-1}\n", "2: not a line of metrics: {\"step\":-1}"},
        {"{\"step\":0.5}\n", "1: not a line of metrics: {\"step\":0.5}"},
        {"{\"step\":1e3}\n", "1: not a line of metrics: {\"step\":1e3}"},
        {"{\"step\":1e999}\n", "1: not a line of metrics: {\"step\":1e999}"},
        {"{\"step\":NaN}\n", "1: not a line of metrics: {\"step\":NaN}"},
        {"{\"step\":\"1\"}\n", "1: not a line of metrics: {\"step\":\"1\"}"},
        {"{\"step\":1,\"val_loss\":1e39}\n", "1: val_loss is not a loss: 1e+39"},
        {"{\"step\":1,\"val_loss\":NaN}\n", "1: not a line of metrics: {\"step\":1,\"val_loss\":NaN}"},
        {"[1]\n", "1: not a line of metrics: [1]"},
        {"\n", "1: not a line of metrics: "},
        {"\x1b]0;x\x07\n", "1: not a line of metrics:  ]0;x "},
        {std::string(1 << 16, '['), "1: a line of more than 65536 bytes: not a line of metrics"},
    };
    for (const auto& [metrics, message] : kCases) EXPECT_EQ(picture_of(metrics), message);
}

TEST(LossCurveFiles, every_step_and_loss_that_is_read_can_be_drawn) {
    for (const char* metrics :
         {"", "{\"step\":1,\"val_loss\":null}\n", "{\"step\":9007199254740992,\"val_loss\":3}\n",
          "{\"step\":9007199254740992,\"val_loss\":3}\n{\"step\":9007199254740991,\"val_loss\":3}\n",
          "{\"step\":0,\"val_loss\":3}\n{\"step\":9007199254740992,\"val_loss\":-3.4e38}\n",
          "{\"step\":0,\"train_loss\":3.4e38}\n{\"step\":1,\"train_loss\":-3.4e38}\n",
          "{\"step\":0,\"train_loss\":1e30}\n{\"step\":1,\"train_loss\":1.0000000000000002e30}\n",
          "{\"step\":0,\"train_loss\":1e7}\n{\"step\":1,\"train_loss\":10000000.0000001}\n",
          "{\"step\":7,\"train_loss\":1}\n{\"step\":7,\"train_loss\":2}\n{\"step\":3,\"train_loss\":4}\n",
          "{\"step\":0,\"train_loss\":5e-324}\n{\"step\":1,\"train_loss\":0}\n"}) {
        const std::string svg = picture_of(metrics);
        EXPECT_TRUE(svg.starts_with("<svg ") && svg.ends_with("</svg>\n")) << metrics << svg;
        EXPECT_EQ(svg.find("nan"), std::string::npos) << metrics;
        EXPECT_EQ(svg.find("inf"), std::string::npos) << metrics;
        EXPECT_LT(svg.size(), 6000u) << metrics;
    }
}

TEST(LossCurveFiles, lines_may_end_anywhere_in_the_blocks_that_are_read) {
    std::string metrics;
    for (int step = 0; step < 3000; step++) {
        metrics += "{\"step\":" + std::to_string(step) + ",\"train_loss\":1,\"note\":\"" +
                   std::string(size_t(step) % 200, 'x') + "\"}\n";
    }
    const TempDirectory run;
    run.write("metrics.jsonl", metrics + "{\"step\":1");
    const LossCurve curve = read_loss_curve(run.path());
    ASSERT_EQ(curve.train.size(), 3000u);
    for (int step = 0; step < 3000; step++) EXPECT_EQ(curve.train[size_t(step)].step, step);
}

TEST(LossCurve, a_title_of_any_bytes_is_valid_xml) {
    const std::string svg = loss_svg({}, "<a> & ]]> \x01\x1b[31m\xEF\xBF\xBE\xEF\xBF\xBF\xFF\xF0\x9F\x98\x80");
    EXPECT_NE(svg.find(">&lt;a&gt; &amp; ]]&gt; [31m\xEF\xBF\xBD\xF0\x9F\x98\x80</text>"), std::string::npos) << svg;
}

}  // namespace
}  // namespace kiln
