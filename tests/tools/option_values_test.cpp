// Values that would fail or hang only later are refused when a program starts, whichever option they are given to.
#include <gtest/gtest.h>

#include "cpu_reference/interface/error.h"
#include "tools/cli/toml.h"
#include "tools/commands/commands.h"
#include "tools/train/options.h"

namespace kiln {
namespace {

using Arguments = std::vector<std::string>;

struct Program {
    const char* name;
    int (*run)(const Arguments&);
};

// The options of the trainers, without training.
int train(const Arguments& args) {
    TrainOptions options;
    OptionSet set("train_gpt2", "", {});
    add_train_options(set, options);
    return set.parse(args) ? 0 : 1;
}

template <const char* const& action>
int tokenizer(const Arguments& args) {
    Arguments all = args;
    all.insert(all.begin(), action);
    return command_tokenizer(all);
}
const char *const kTrain = "train", *const kImport = "import", *const kEncode = "encode", *const kDecode = "decode";

const Program kPrograms[] = {{"train_gpt2", train},
                             {"kiln prepare", command_prepare},
                             {"kiln generate", command_generate},
                             {"kiln eval", command_eval},
                             {"kiln inspect", command_inspect},
                             {"kiln plot", command_plot},
                             {"kiln tokenizer train", tokenizer<kTrain>},
                             {"kiln tokenizer import", tokenizer<kImport>},
                             {"kiln tokenizer encode", tokenizer<kEncode>},
                             {"kiln tokenizer decode", tokenizer<kDecode>}};

std::string printed_config(const Program& program, Arguments args) {
    args.push_back("--print-config");
    testing::internal::CaptureStdout();
    try {
        program.run(args);
    } catch (...) {
        testing::internal::GetCapturedStdout();
        throw;
    }
    return testing::internal::GetCapturedStdout();
}

TEST(OptionValues, no_number_of_any_program_takes_what_is_none) {
    int options = 0, refused = 0;
    for (const Program& program : kPrograms) {
        for (const TomlEntry& option : parse_toml(printed_config(program, {}), program.name)) {
            options++;
            for (const char* value :
                 {"nan", "-nan", "inf", "-inf", "1e999", "-1e999", "", " 1", "1 ", "0x", "1,5", "1e"}) {
                std::string shown;
                try {
                    shown = printed_config(program, {concat("--", option.name, "=", value)});
                } catch (const UsageError&) {
                    refused++;
                    continue;
                }
                const std::string line = concat("\n", option.name, " = ");  // accepted only as a text
                EXPECT_TRUE(shown.find(concat(line, '"', value, "\"\n")) != shown.npos ||
                            shown.find(concat(line, "[\"", value, "\"]\n")) != shown.npos)
                    << program.name << " --" << option.name << "=" << value << "\n"
                    << shown;
            }
        }
    }
    EXPECT_GT(options, 100);
    EXPECT_GT(refused, 600);
}

TEST(OptionValues, what_would_fail_later_is_refused_at_the_start) {
    const struct {
        int (*run)(const Arguments&);
        Arguments args;
        const char* message;
    } kCases[] = {
        {train, {"--top-p", "0"}, "--top-p: 0 is out of range; it must lie in [1e-06, 1]"},
        {train, {"--epochs", "0"}, "--epochs: 0 is out of range; it must lie in [1e-06, 1e+06]"},
        {train, {"-x", "-2"}, "--max-steps (-x): -2 is out of range; it must lie in [-1, 1e+12]"},
        {train, {"-b", "-1"}, "--batch-size (-b): -1 is out of range; it must lie in [1, 65536]"},
        {train, {"--temperature", "-1"}, "--temperature: -1 is out of range; it must lie in [0, 100]"},
        {train, {"-g", "0"}, "--sample-tokens (-g): 0 is out of range; it must lie in [1, 1048576]"},
        {command_generate, {"--model", ""}, "--model: must not be empty"},
        {command_generate,
         {"--model", "x", "--num-samples", "2147483647"},
         "--num-samples: 2147483647 is out of range; it must lie in [1, 1e+06]"},
        {command_eval, {"--model", "", "--data", "x"}, "--model: must not be empty"},
        {command_eval, {"--model", "x", "--data", ""}, "--data: must not be empty"},
        {command_eval,
         {"--model", "x", "--data", "x", "-b", "2147483647"},
         "--batch-size (-b): 2147483647 is out of range; it must lie in [1, 65536]"},
        {command_prepare, {"--input", "", "--tokenizer", "x", "--output", "x"}, "--input: must not be empty"},
        {command_prepare, {"--input", "x", "--tokenizer", "", "--output", "x"}, "--tokenizer: must not be empty"},
        {command_prepare, {"--input", "x", "--tokenizer", "x", "--output", ""}, "--output: must not be empty"},
        {tokenizer<kTrain>, {"--input", "", "--output", "x"}, "--input: must not be empty"},
        {command_inspect, {""}, "PATH: must not be empty"},
        {command_plot, {"--run", ""}, "--run: must not be empty"},
    };
    for (const auto& c : kCases) {
        std::string what = "accepted";
        try {
            c.run(c.args);
        } catch (const UsageError& error) {
            what = error.what();
        } catch (const Error& error) {
            what = concat("only later: ", error.what());
        }
        EXPECT_TRUE(what.starts_with(c.message)) << testing::PrintToString(c.args) << ": " << what;
    }
}

}  // namespace
}  // namespace kiln
