#include "tools/train/logger.h"

#include <gtest/gtest.h>

#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cpu_reference/interface/error.h"
#include "tests/support/temp_directory.h"
#include "tokenizer/io/file.h"
#include "tools/train/loss_curve.h"
#include "tools/train/run_directory.h"

namespace kiln {
namespace {

constexpr LogPosition kEmpty{};

StepReport report(int64_t step, double loss) {
    StepReport r;
    r.step = step;
    r.total_steps = 100;
    r.loss = loss;
    r.norm = 1.0 / 3;
    r.learning_rate = 3e-4f;
    r.ms = 12.5;
    r.tokens_per_second = 20480;
    return r;
}

TEST(RunLog, a_log_that_is_moved_replaced_or_removed_is_continued_under_its_name) {
    const std::string others = "s:0 others:1\n";
    for (const std::string how : {"moved", "replaced", "removed"}) {
        const TempDirectory parent;
        const std::filesystem::path before = parent / "before", run = parent / "run";
        std::filesystem::create_directory(before);
        RunLog log(before, kEmpty);
        std::filesystem::rename(before, run);  // the directory may move too
        const RunDirectory directory(run);
        for (const char* file : {"main.log", "metrics.jsonl"}) {
            const auto reopen = [&] { return error_of([&] { log.reopen(directory.descriptor()); }); };
            log.event(1, "first", "1");
            EXPECT_EQ(reopen(), "");
            const std::string first = read_file(run / file);
            std::filesystem::rename(run / file, parent / "moved");
            if (how == "replaced") parent.write(std::string("run/") + file, others);
            if (how == "removed") std::filesystem::remove(parent / "moved");
            EXPECT_NE(reopen().find(std::string(file) + ": was moved, replaced or removed"), std::string::npos);
            EXPECT_EQ(reopen(), "") << "it is told twice";
            log.event(2, "second", "2");
            log.sync();
            const std::string now = read_file(run / file);
            EXPECT_EQ(now.find("first"), std::string::npos);
            EXPECT_NE(now.find("second"), std::string::npos);
            EXPECT_EQ(now.starts_with(others), how == "replaced");
            if (how == "removed") continue;
            EXPECT_EQ(read_file(parent / "moved"), first);
        }
        EXPECT_EQ(log.position().main_bytes, std::filesystem::file_size(run / "main.log"));
        EXPECT_EQ(log.position().metrics_bytes, std::filesystem::file_size(run / "metrics.jsonl"));
    }
}

TEST(RunLog, a_log_whose_name_belongs_to_a_directory_is_written_on) {
    const TempDirectory run;
    RunLog log(run.path(), kEmpty);
    const RunDirectory directory(run.path());
    std::filesystem::rename(run / "main.log", run / "moved");
    std::filesystem::rename(run / "metrics.jsonl", run / "gone");
    std::filesystem::create_directory(run / "main.log");
    const std::string message = error_of([&] { log.reopen(directory.descriptor()); });
    EXPECT_NE(message.find("main.log: is a directory; remove it"), std::string::npos) << message;
    EXPECT_NE(message.find("metrics.jsonl: was moved"), std::string::npos) << message;
    log.event(1, "name", "value");
    EXPECT_EQ(read_file(run / "moved"), "s:1 name:value\n");
}

TEST(RunLog, of_a_resumed_run_a_directory_in_place_of_a_log_is_told_and_the_other_log_is_written) {
    const TempDirectory run;
    std::filesystem::create_directory(run / "main.log");
    RunLog log(run.path(), {.main_bytes = 100, .metrics_bytes = 0});
    const RunDirectory directory(run.path());
    for (int i = 0; i < 2; i++) {
        const std::string message = error_of([&] { log.reopen(directory.descriptor()); });
        EXPECT_NE(message.find("main.log: is a directory; remove it"), std::string::npos) << message;
        log.event(1, "name", "value");
        log.sync();
    }
    EXPECT_EQ(log.position().main_bytes, 100u);  // of the log that may come back
    EXPECT_EQ(log.position().metrics_bytes, std::filesystem::file_size(run / "metrics.jsonl"));
}

TEST(RunLog, main_log_has_the_lines_of_llmc) {
    const TempDirectory run;
    RunLog log(run.path(), kEmpty);
    log.validation(0, 10.98765);
    log.train(report(0, 10.98765));
    log.event(1, "learning-rate", "0.1->0.2");
    EXPECT_EQ(read_file(run / "main.log"),
              "s:0 tel:10.9877\ns:0 trl:10.9877 lr:0.000300 norm:0.33\ns:1 learning-rate:0.1->0.2\n");
}

TEST(RunLog, metrics_keep_every_bit_and_not_a_number_is_null) {
    const TempDirectory run;
    RunLog log(run.path(), kEmpty);
    StepReport r = report(7, 0.1 + 0.2);
    r.skipped = "loss is an outlier";
    log.train(r);
    log.train(report(8, std::nan("")));
    log.sample(8, "bad \xff byte\n");
    std::istringstream lines(read_file(run / "metrics.jsonl"));
    std::string line;
    std::getline(lines, line);
    const auto first = nlohmann::json::parse(line);
    EXPECT_EQ(first["train_loss"].get<double>(), 0.1 + 0.2);
    EXPECT_EQ(first["norm"].get<double>(), 1.0 / 3);
    EXPECT_EQ(first["learning_rate"].get<float>(), 3e-4f);
    EXPECT_EQ(first["skipped"], "loss is an outlier");
    EXPECT_TRUE(first["mfu"].is_null());
    std::getline(lines, line);
    EXPECT_TRUE(nlohmann::json::parse(line)["train_loss"].is_null());
    std::getline(lines, line);
    EXPECT_EQ(nlohmann::json::parse(line)["step"], 8);
}

TEST(RunLog, lines_after_the_checkpoint_are_cut) {
    const TempDirectory run;
    LogPosition position;
    {
        RunLog log(run.path(), kEmpty);
        log.train(report(0, 3));
        position = log.position();
        log.train(report(1, 2));
    }
    const std::string before = read_file(run / "main.log");
    RunLog log(run.path(), position);
    log.train(report(1, 2));
    EXPECT_EQ(read_file(run / "main.log"), before);
    EXPECT_EQ(read_loss_curve(run.path()).train.size(), 2u);
}

// What a power cut may leave: a log that was not synced is shorter than its checkpoint says, or ends in zeros.
TEST(RunLog, torn_tails_are_cut_to_the_whole_lines_that_the_checkpoint_counts) {
    LogPosition position;
    std::string main, metrics;
    {
        const TempDirectory run;
        RunLog log(run.path(), kEmpty);
        for (int step = 0; step < 60; step++) log.train(report(step, 3));  // longer than one part that is read
        position = log.position();
        main = read_file(run / "main.log"), metrics = read_file(run / "metrics.jsonl");
    }
    for (const size_t lost : {size_t(1), size_t(40), size_t(3000), metrics.size() - 1, metrics.size()}) {
        for (const std::string& zeros : {std::string(), std::string(5000, '\0')}) {
            const TempDirectory run;
            run.write("main.log", main.substr(0, main.size() - std::min(lost, main.size())) + zeros);
            run.write("metrics.jsonl", metrics.substr(0, metrics.size() - lost) + zeros);
            RunLog log(run.path(), position);
            log.train(report(60, 2));
            const LossCurve curve = read_loss_curve(run.path());
            ASSERT_FALSE(curve.train.empty());
            EXPECT_EQ(curve.train.back().step, 60);
            for (size_t i = 0; i + 1 < curve.train.size(); i++) EXPECT_EQ(curve.train[i].step, double(i));
            std::istringstream lines(read_file(run / "main.log"));
            for (std::string line; std::getline(lines, line);) {
                EXPECT_TRUE(line.starts_with("s:") && line.ends_with("norm:0.33")) << line;
            }
        }
    }
}

TEST(RunLog, a_file_that_cannot_be_written_is_named) {
    const TempDirectory run;
    RunLog log(run.path(), kEmpty);
    rlimit before{};
    getrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{20, before.rlim_max};  // within the first line
    setrlimit(RLIMIT_FSIZE, &limit);
    const std::string message = error_of([&] { log.train(report(0, 3)); });
    setrlimit(RLIMIT_FSIZE, &before);
    EXPECT_NE(message.find((run / "main.log").string() + ": cannot be written: File too large"), std::string::npos)
        << message;
    log.event(1, "a", "b");  // not glued to the part of the line before
    EXPECT_EQ(read_file(run / "main.log"), "s:1 a:b\n");
}

TEST(StepLine, has_what_is_known_and_fits) {
    StepReport r = report(11, 5.12345);
    r.seconds_left = 72;
    EXPECT_EQ(step_line(r),
              "step  12/100 | loss 5.1235 | norm 0.3333 | lr 3.00e-04 |   12 ms |  20.5k tok/s | 1m 12s left");
    r.mfu = 0.456;
    EXPECT_EQ(step_line(r),
              "step  12/100 | loss 5.1235 | norm 0.3333 | lr 3.00e-04 |  20.5k tok/s | MFU 45.6% | 1m 12s left");
    r.loss_z = r.norm_z = -0.5;
    r.mfu = StepReport::kUnknown, r.ms = 12345, r.seconds_left = 5;
    EXPECT_EQ(step_line(r, 120),
              "step  12/100 | loss 5.1235 (z -0.50) | norm 0.3333 (z -0.50) | lr 3.00e-04 | 12345 ms |  20.5k tok/s | "
              "5s left");
    EXPECT_EQ(step_line(r, 60), "step  12/100 | loss 5.1235 |  20.5k tok/s | 5s left");
    EXPECT_EQ(step_line(r, 30), "step  12/100 | loss 5.1235");
    r.skipped = "loss is not finite";
    EXPECT_EQ(step_line(r, 80), "step  12/100 | loss 5.1235 | update skipped: loss is not finite | 5s left");
}

TEST(StepLine, is_never_wider_than_the_terminal) {
    StepReport r;
    r.step = 123456788, r.total_steps = 1000000000;
    r.loss = 1e9, r.norm = 1e30, r.loss_z = r.norm_z = -1234.5;
    r.ms = 1e9, r.tokens_per_second = 123.4e6, r.mfu = 0.999, r.seconds_left = 1e8;
    for (const char* reason : {"", "the gradient overflows; the loss scale is now 1.17549e-38"}) {
        r.skipped = reason;
        EXPECT_LE(step_line(r).size(), 100u);
        for (int columns = 1; columns <= 200; columns++) EXPECT_LE(step_line(r, columns).size(), size_t(columns));
    }
}

// In time, 10 steps a second.
std::vector<int64_t> steps_with_a_line(StepLines lines, int64_t total_steps, int64_t skipped = -1) {
    std::vector<int64_t> shown;
    for (int64_t step = 0; step < total_steps; step++) {
        StepReport r = report(step, 1);
        r.total_steps = total_steps;
        if (step == skipped) r.skipped = "loss is not finite";
        if (lines.due(r, StepLines::Clock::time_point(std::chrono::milliseconds(100 * step))))
            shown.push_back(step + 1);
    }
    return shown;
}

TEST(StepLines, are_one_a_second_on_a_terminal_and_every_step_in_a_file) {
    EXPECT_EQ(steps_with_a_line({0, true}, 25), (std::vector<int64_t>{1, 11, 21, 25}));
    EXPECT_EQ(steps_with_a_line({0, false}, 25).size(), 25u);
    for (const bool terminal : {false, true}) {
        EXPECT_EQ(steps_with_a_line({10, terminal}, 25), (std::vector<int64_t>{1, 10, 20, 25}));
        EXPECT_EQ(steps_with_a_line({1, terminal}, 25).size(), 25u);
        EXPECT_EQ(steps_with_a_line({10, terminal}, 25, 12), (std::vector<int64_t>{1, 10, 13, 20, 25}));
    }
}

TEST(LossCurve, reads_both_losses_and_ignores_an_incomplete_last_line) {
    const TempDirectory run;
    write_file_atomic(
        run / "metrics.jsonl",
        "{\"step\":0,\"val_loss\":3.5}\n{\"step\":0,\"train_loss\":3.25}\n{\"step\":1,\"train_loss\":null}\n{\"st");
    const LossCurve curve = read_loss_curve(run.path());
    ASSERT_EQ(curve.train.size(), 1u);
    ASSERT_EQ(curve.val.size(), 1u);
    EXPECT_EQ(curve.train[0].loss, 3.25);
    EXPECT_EQ(curve.val[0].loss, 3.5);
}

TEST(LossCurve, a_broken_line_is_named_by_its_number) {
    const TempDirectory run;
    write_file_atomic(run / "metrics.jsonl", "{\"step\":0,\"val_loss\":3.5}\nnot json\n");
    try {
        read_loss_curve(run.path());
        FAIL();
    } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find("metrics.jsonl:2: not a line of metrics: not json"),
                  std::string::npos);
    }
}

TEST(LossCurve, svg_has_both_curves_inside_its_frame_and_a_bounded_size) {
    LossCurve curve;
    for (int i = 0; i < 50000; i++) curve.train.push_back({double(i), 2 + 8 * std::exp(-i / 5000.0)});
    for (int i = 0; i < 50000; i += 5000) curve.val.push_back({double(i), 2.1 + 8 * std::exp(-i / 5000.0)});
    const std::string svg = loss_svg(curve, "a <run> & more");
    EXPECT_LT(svg.size(), 100000u);
    EXPECT_NE(svg.find("a &lt;run&gt; &amp; more"), std::string::npos);
    EXPECT_NE(svg.find("validation"), std::string::npos);
    EXPECT_EQ(svg.find("nan"), std::string::npos);
    // The first training point is at the left edge of the frame.
    EXPECT_NE(svg.find("d=\"M70.0 "), std::string::npos);
    EXPECT_TRUE(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
}

TEST(LossCurve, a_step_is_a_whole_number_at_any_size) {
    LossCurve curve;
    for (int i = 0; i <= 10; i++) curve.val.push_back({i * 1e6, 3.0 - i * 0.1});
    const std::string svg = loss_svg(curve, "");
    EXPECT_NE(svg.find(">10000000</text>"), std::string::npos) << svg;
    EXPECT_NE(svg.find("<title>step 10000000: 2.0000</title>"), std::string::npos) << svg;
    EXPECT_EQ(svg.find("e+0"), std::string::npos) << svg;
    curve.val.resize(2);
    curve.val[1].step = 2;
    EXPECT_EQ(loss_svg(curve, "").find(">0</text>"), loss_svg(curve, "").rfind(">0</text>"));  // not at 0.2 too
}

TEST(LossCurve, the_smoothed_line_does_not_jump_to_the_last_batch) {
    LossCurve curve;
    for (int i = 0; i < 500; i++) curve.train.push_back({double(i), i == 499 ? 9.0 : 3.0});
    const std::string svg = loss_svg(curve, "");
    const size_t end = svg.find('"', svg.find("d=\"", svg.find("stroke-width=\"2\"")) + 3);
    const double height = std::stod(svg.substr(svg.rfind(' ', end)));
    // The last point is the mean of eleven, 3.545. The axis goes from 3 at 428 to 9 at 52.
    EXPECT_NEAR(height, 428 - (428 - 52) * (3 + 6 / 11.0 - 3) / 6, 0.1) << svg;
}

TEST(LossCurve, the_title_is_the_name_of_the_run) {
    EXPECT_EQ(run_title("/a/runs/mine"), "mine");
    EXPECT_EQ(run_title("runs/mine/"), "mine");
    EXPECT_EQ(run_title("."), std::filesystem::current_path().filename());
    EXPECT_EQ(run_title(std::string(100, 'x')), std::string(80, 'x') + "...");
    EXPECT_EQ(loss_svg({}, "a\xFF").find("a\xFF"), std::string::npos);
}

TEST(LossCurve, of_a_long_run_is_a_bounded_number_of_means) {
    LossCurve curve;
    double sum = 0, weighted = 0;
    constexpr int kSteps = 100000;
    for (int step = 0; step < kSteps; step++) {
        const double loss = std::sin(step * 0.1);
        curve.add_train({double(step), loss});
        sum += loss;
        ASSERT_LE(curve.train.size(), LossCurve::kMaxPoints);
        ASSERT_TRUE(step != 1234 || curve.train.back().loss == loss);  // while there is room, every loss is kept
    }
    EXPECT_GT(curve.train.size(), LossCurve::kMaxPoints / 2);
    for (size_t i = 0; i < curve.train.size(); i++) {
        const bool last = i + 1 == curve.train.size();
        weighted += curve.train[i].loss * double(last ? curve.losses_in_last : curve.losses_a_point);
        const double first_step = double(i * curve.losses_a_point);
        EXPECT_NEAR(curve.train[i].step,
                    first_step + double((last ? curve.losses_in_last : curve.losses_a_point) - 1) / 2, 1e-6);
    }
    EXPECT_NEAR(weighted, sum, 1e-6);
}

TEST(LossCurve, svg_of_one_point_or_none_has_finite_coordinates) {
    for (const LossCurve& curve : {LossCurve{}, LossCurve{.train = {{0, 1.5}}, .val = {}}}) {
        const std::string svg = loss_svg(curve, "");
        EXPECT_EQ(svg.find("nan"), std::string::npos);
        EXPECT_EQ(svg.find("inf"), std::string::npos);
    }
}

}  // namespace
}  // namespace kiln
