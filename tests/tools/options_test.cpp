#include "tools/cli/options.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>

#include "cpu_reference/interface/error.h"
#include "tests/support/temp_directory.h"
#include "tools/cli/version.h"

namespace kiln {
namespace {

// The options of a small program, at least one of each kind.
struct Program {
    int rows = 4;
    int64_t steps = -1;
    uint64_t seed = 1337;
    float lr = 3e-4f;
    double temperature = 1.0;
    bool resume = false;
    std::string model = "gpt2", schedule = "cosine";
    std::vector<std::string> input;
    OptionSet set{"prog", "a program", {"-b 8 --model gpt2", "--resume"}};

    Program() {
        set.section("Batch");
        set.add(rows, {.name = "batch-size", .short_name = "b", .help = "sequences in a batch", .min = 1, .max = 1024});
        set.add(steps, {.name = "max-steps", .short_name = "x", .help = "-1: by epochs", .min = -1});
        set.add(seed, {.name = "seed", .help = "of everything random"});
        set.section("Training");
        set.add(lr, {.name = "learning-rate", .short_name = "l", .help = "peak", .min = 0, .max = 0.1});
        set.add(temperature, {.name = "temperature", .help = "of samples", .min = 0});
        set.add(resume, {.name = "resume", .short_name = "y", .former_names = {"restart"}, .help = "resume a run"});
        set.add(model, {.name = "model", .short_name = "e", .help = "descriptor"});
        set.add(schedule,
                {.name = "schedule", .short_name = "k", .help = "", .choices = {"constant", "cosine", "wsd"}});
        set.add(input, {.name = "input", .short_name = "in", .help = "files"});
        set.add_unavailable({.name = "zero-stage", .short_name = "z", .help = "sharding of the optimizer"}, {"0"});
    }
};

std::string usage_error(const std::function<void()>& run) {
    try {
        run();
    } catch (const UsageError& error) {
        return error.what();
    }
    return "no error";
}

std::string usage_error_of(const std::vector<std::string>& args) {
    Program program;
    return usage_error([&] { program.set.parse(args); });
}

class TemporaryFile {
public:
    explicit TemporaryFile(const std::string& content) : path_(directory_.write("c.toml", content)) {}
    const std::string& path() const { return path_; }

private:
    TempDirectory directory_;
    std::string path_;
};

TEST(Options, defaults_stay_when_nothing_is_given) {
    Program p;
    EXPECT_TRUE(p.set.parse({}));
    EXPECT_EQ(p.rows, 4);
    EXPECT_EQ(p.schedule, "cosine");
    EXPECT_FALSE(p.set.given("batch-size"));
}

TEST(Options, long_and_short_names_set_the_same_value) {
    for (const std::vector<std::string>& args : {std::vector<std::string>{"-b", "8"},
                                                 {"-b=8"},
                                                 {"--batch-size", "8"},
                                                 {"--batch-size=8"},
                                                 {"-b", "2", "-b", "8"}}) {
        Program p;
        EXPECT_TRUE(p.set.parse(args));
        EXPECT_EQ(p.rows, 8);
        EXPECT_TRUE(p.set.given("batch-size"));
        EXPECT_EQ(p.set.source("batch-size"), "--batch-size (-b)");
    }
}

TEST(Options, a_flag_takes_a_value_or_none) {
    const std::vector<std::pair<std::vector<std::string>, bool>> cases = {
        {{"--resume"}, true},    {{"-y", "1"}, true},  {{"-y"}, true},
        {{"--resume=0"}, false}, {{"-y", "0"}, false}, {{"--resume", "-b", "2"}, true},
    };
    for (const auto& [args, expected] : cases) {
        Program p;
        EXPECT_TRUE(p.set.parse(args));
        EXPECT_EQ(p.resume, expected) << args[0];
    }
}

TEST(Options, values_may_be_empty_negative_or_begin_with_a_dash) {
    Program p;
    EXPECT_TRUE(p.set.parse({"-x", "-1", "--model=", "--schedule", "wsd"}));
    EXPECT_EQ(p.steps, -1);
    EXPECT_EQ(p.model, "");
    EXPECT_EQ(p.schedule, "wsd");
    Program q;
    EXPECT_TRUE(q.set.parse({"-e", "-odd-", "-x=-1"}));
    EXPECT_EQ(q.model, "-odd-");
}

TEST(Options, a_list_takes_all_values_up_to_the_next_option) {
    Program p;
    EXPECT_TRUE(p.set.parse({"--input", "a", "b c", "[d]", "-b", "2", "--input=e"}));
    EXPECT_EQ(p.input, (std::vector<std::string>{"a", "b c", "[d]", "e"}));
    EXPECT_EQ(p.rows, 2);
}

TEST(Options, positional_arguments_are_taken_in_order) {
    std::string command;
    std::vector<std::string> files;
    int n = 0;
    OptionSet set("prog", "", {});
    set.add_positional(command, {.name = "command", .help = "", .required = true});
    set.add_positional(files, {.name = "file", .help = ""});
    set.add(n, {.name = "count", .short_name = "n", .help = ""});
    EXPECT_TRUE(set.parse({"go", "-n", "3", "x", "y"}));
    EXPECT_EQ(command, "go");
    EXPECT_EQ(n, 3);
    EXPECT_EQ(files, (std::vector<std::string>{"x", "y"}));
}

TEST(Options, numbers_keep_every_bit) {
    Program p;
    EXPECT_TRUE(p.set.parse({"--seed", "18446744073709551615", "-l", "0.1", "--temperature", "0.30000000000000004"}));
    EXPECT_EQ(p.seed, UINT64_MAX);
    EXPECT_EQ(p.lr, 0.1f);  // the end of the range belongs to it, in float too
    EXPECT_EQ(p.temperature, 0.1 + 0.2);
}

TEST(OptionErrors, an_unknown_option_names_the_nearest) {
    EXPECT_EQ(usage_error_of({"--batchsize", "3"}),
              "unknown option --batchsize; did you mean --batch-size? See prog --help");
    EXPECT_EQ(usage_error_of({"--modle=x"}), "unknown option --modle; did you mean --model? See prog --help");
    EXPECT_NE(usage_error_of({"-bb", "3"}).find("unknown option -bb; did you mean -b?"), std::string::npos);
    EXPECT_EQ(usage_error_of({"stray"}), "unexpected argument \"stray\"; see prog --help");
}

TEST(OptionErrors, an_option_of_another_program_is_understood_by_its_meaning) {
    for (const auto& [given, meant] : {std::pair{"--lr", "--learning-rate"},
                                       {"--max_iters", "--max-steps"},
                                       {"--model_path=x", "--model"},
                                       {"--temp", "--temperature"},
                                       {"--ckpt", "--model"},
                                       {"--scheduler", "--schedule"}}) {
        EXPECT_NE(usage_error_of({given, "1"}).find(concat("did you mean ", meant, "?")), std::string::npos)
            << usage_error_of({given, "1"});
    }
    const TemporaryFile file("lr = 3\n");
    EXPECT_EQ(usage_error_of({"--config", file.path()}),
              file.path() + ":1: lr is not an option of prog; did you mean learning-rate?");
}

TEST(Options, underscores_are_dashes) {
    Program p;
    EXPECT_TRUE(p.set.parse({"--batch_size", "8", "--max_steps=3", "--model", "a_b"}));
    EXPECT_EQ(p.rows, 8);
    EXPECT_EQ(p.steps, 3);
    EXPECT_EQ(p.model, "a_b");
}

TEST(OptionHelp, version_and_a_bare_h_stop_the_program) {
    const auto output_of = [](const std::vector<std::string>& args) {
        Program p;
        std::string evaluation;
        p.set.add(evaluation, {.name = "evaluation", .short_name = "h", .help = "llm.c's"});
        testing::internal::CaptureStdout();
        const bool goes_on = p.set.parse(args);
        return std::pair(testing::internal::GetCapturedStdout(), goes_on);
    };
    EXPECT_EQ(output_of({"--version"}), std::pair(concat("prog ", kVersion, "\n"), false));
    EXPECT_TRUE(output_of({"-h"}).first.starts_with("prog: a program"));
    EXPECT_TRUE(output_of({"-b", "2", "-h", "-y"}).first.starts_with("prog: a program"));
    EXPECT_EQ(output_of({"-h", "0"}), std::pair(std::string(), true));
    setenv("KILN_VERSION", "3.1", 1);  // of something else
    EXPECT_EQ(output_of({}), std::pair(std::string(), true));
    unsetenv("KILN_VERSION");
}

TEST(OptionErrors, a_bad_number_names_option_text_and_range) {
    EXPECT_EQ(usage_error_of({"-b", "four"}),
              "--batch-size (-b): \"four\" is not a whole number; it must lie in [1, 1024]");
    EXPECT_EQ(usage_error_of({"-b", "4.5"}),
              "--batch-size (-b): \"4.5\" is not a whole number; it must lie in [1, 1024]");
    EXPECT_EQ(usage_error_of({"-b", ""}), "--batch-size (-b): \"\" is not a whole number; it must lie in [1, 1024]");
    EXPECT_EQ(usage_error_of({"-b", "0"}), "--batch-size (-b): 0 is out of range; it must lie in [1, 1024]");
    EXPECT_EQ(usage_error_of({"-b", "99999999999999999999"}),
              "--batch-size (-b): 99999999999999999999 is out of range; it must lie in [1, 1024]");
    EXPECT_EQ(usage_error_of({"-l", "nan"}), "--learning-rate (-l): nan is out of range; it must lie in [0, 0.1]");
    EXPECT_EQ(usage_error_of({"--seed", "-1"}).find("--seed: \"-1\" is not a whole number"), 0u);
}

TEST(OptionErrors, the_next_option_is_not_taken_for_a_missing_value) {
    EXPECT_EQ(usage_error_of({"-b", "--resume"}), "--batch-size (-b) needs a value: sequences in a batch");
    EXPECT_EQ(usage_error_of({"--model"}), "--model (-e) needs a value: descriptor");
}

TEST(OptionErrors, a_wrong_choice_lists_the_choices) {
    EXPECT_EQ(usage_error_of({"-k", "cosin"}),
              "--schedule (-k): \"cosin\" is not one of constant, cosine, wsd; did you mean cosine?");
    EXPECT_EQ(usage_error_of({"--resume=maybe"}), "--resume (-y): \"maybe\" is neither true (1) nor false (0)");
}

TEST(OptionErrors, an_unavailable_feature_is_refused_unless_switched_off) {
    EXPECT_EQ(usage_error_of({"-z", "0"}), "no error");
    EXPECT_EQ(
        usage_error_of({"-z", "1"}),
        "--zero-stage (-z) 1: sharding of the optimizer is not available in prog; leave the option out or set it to 0");
}

TEST(OptionErrors, a_required_option_that_is_absent_is_named) {
    std::string model;
    OptionSet set("prog", "", {});
    set.add(model, {.name = "model", .help = "a directory", .required = true});
    EXPECT_EQ(usage_error([&] { set.parse({}); }), "--model is required: a directory; see prog --help");
}

TEST(OptionSources, command_line_beats_environment_beats_file) {
    const TemporaryFile file("batch-size = 2\nmax_steps = 20\nlearning-rate = 1e-3\n");
    setenv("KILN_MAX_STEPS", "30", 1);
    setenv("KILN_LEARNING_RATE", "0.002", 1);
    Program p;
    EXPECT_TRUE(p.set.parse({"--config", file.path(), "-l", "0.003"}));
    unsetenv("KILN_MAX_STEPS");
    unsetenv("KILN_LEARNING_RATE");
    EXPECT_EQ(p.rows, 2);
    EXPECT_EQ(p.steps, 30);
    EXPECT_EQ(p.lr, 0.003f);
    EXPECT_EQ(p.set.source("max-steps"), "KILN_MAX_STEPS");
    EXPECT_EQ(p.set.source("batch-size"), file.path() + ":1: batch-size");
}

TEST(OptionSources, file_errors_name_file_line_and_nearest_key) {
    const TemporaryFile unknown("# comment\nbatch-size = 2\nbatch-sise = 3\n");
    EXPECT_EQ(usage_error_of({"--config", unknown.path()}),
              unknown.path() + ":3: batch-sise is not an option of prog; did you mean batch-size?");
    const TemporaryFile range("\nbatch-size = 0\n");
    EXPECT_EQ(usage_error_of({"--config", range.path()}),
              range.path() + ":2: batch-size: 0 is out of range; it must lie in [1, 1024]");
    const TemporaryFile syntax("batch-size = \n");
    EXPECT_EQ(usage_error_of({"--config", syntax.path()}).find(syntax.path() + ":1: "), 0u);
    EXPECT_EQ(usage_error_of({"--config", "/nowhere/c.toml"}).find("--config: /nowhere/c.toml: cannot be opened"), 0u);
    const TemporaryFile twice("batch-size = 1\nbatch_size = 2\n"), large(std::string((1 << 20) + 1, '\n'));
    EXPECT_EQ(usage_error_of({"--config", twice.path()}),
              twice.path() + ":2: batch_size is given twice; remove one of the lines");
    EXPECT_EQ(usage_error_of({"--config", large.path()}).find("--config: " + large.path() + ": is larger than 1048576"),
              0u);
    const TemporaryFile list("batch-size = [1, 2]\n");
    EXPECT_EQ(usage_error_of({"--config", list.path()}), list.path() + ":1: batch-size: takes one value, not a list");
}

TEST(OptionSources, printed_toml_reads_back_as_the_same_values) {
    Program p;
    EXPECT_TRUE(p.set.parse({"-b", "7", "-l", "0.00123", "--temperature", "0.7", "-e", "quote \" back \\ \n \x7f é",
                             "-y", "--input", "a", "b"}));
    const TemporaryFile file(p.set.to_toml());
    Program q;
    EXPECT_TRUE(q.set.parse({"--config", file.path()}));
    EXPECT_EQ(q.set.to_toml(), p.set.to_toml());
    EXPECT_EQ(q.model, p.model);
    EXPECT_EQ(q.lr, p.lr);
    EXPECT_EQ(q.input, p.input);
}

TEST(OptionSources, a_former_name_is_read_everywhere_and_never_shown) {
    const TemporaryFile file("restart = true\n");
    for (const std::vector<std::string>& args :
         {std::vector<std::string>{"--restart"}, {"--restart=1"}, {"--config", file.path()}}) {
        Program p;
        EXPECT_TRUE(p.set.parse(args));
        EXPECT_TRUE(p.resume) << args[0];
        EXPECT_TRUE(p.set.given("resume"));
        EXPECT_EQ(p.set.to_toml().find("restart"), std::string::npos);
        EXPECT_EQ(p.set.help_text().find("restart"), std::string::npos);
    }
    setenv("KILN_RESTART", "1", 1);
    Program old;
    EXPECT_TRUE(old.set.parse({}));
    EXPECT_TRUE(old.resume);
    setenv("KILN_RESUME", "0", 1);
    Program both;
    EXPECT_TRUE(both.set.parse({}));
    EXPECT_FALSE(both.resume);  // the present name wins
    unsetenv("KILN_RESTART");
    unsetenv("KILN_RESUME");
}

TEST(OptionHelp, names_every_option_and_is_grouped_by_section) {
    testing::internal::CaptureStdout();
    Program p;
    EXPECT_FALSE(p.set.parse({"--help"}));
    const std::string help = testing::internal::GetCapturedStdout();
    for (const char* part : {"\nBatch:\n", "\nTraining:\n", "-b,  --batch-size N", "sequences in a batch [default: 4]",
                             "sharding of the optimizer (not available yet) [default: 0]",
                             "resume a run [default: false]", "files [default: none]", "--print-config",
                             "(constant | cosine | wsd) [default: cosine]", "print this text, and stop"}) {
        EXPECT_NE(help.find(part), std::string::npos) << part << " in\n" << help;
    }
    EXPECT_LT(help.find("\nBatch:"), help.find("--batch-size"));
    EXPECT_LT(help.find("--batch-size"), help.find("\nTraining:"));
}

}  // namespace
}  // namespace kiln
