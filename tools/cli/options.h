#pragma once
// The options of a program. Each is described once: long name, llm.c's short name, unit, range, default, help, section.
// Values come from the --config file, then from the environment (KILN_BATCH_SIZE for --batch-size), then from the
// command line; the last one wins.
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "cpu_reference/interface/text.h"

namespace kiln {

struct OptionSpec {
    std::string name = {};        // long, without dashes: "batch-size"
    std::string short_name = {};  // without its dash, several letters allowed: "nk"; empty: none
    // Earlier long names. They are still read on the command line, in files and in the environment; --help and
    // --print-config do not show them.
    std::vector<std::string> former_names = {};
    std::string unit = {};          // what --help shows for the value: TOKENS, FILE, SECONDS; empty: by type
    std::string help = {};          // says what 0 or an empty value means
    std::string default_help = {};  // what --help shows as the default; empty: the variable's value, or "none"
    double min = -std::numeric_limits<double>::infinity();  // numbers only; both limits are allowed values
    double max = std::numeric_limits<double>::infinity();
    std::vector<std::string> choices = {};  // strings only: the values allowed
    std::string implied = {};               // strings only: the value of --name without =VALUE
    std::string zero = {};                  // integers only: a word for 0, such as auto, also accepted if min > 0
    bool required = false;                  // a UsageError if no value is given
    bool nameless = false;                  // the value may also be the first argument without a name
};

inline constexpr uint64_t kMaxConfigBytes = 1 << 20;

// The text of a file like that of --config.
struct ConfigText {
    std::string file = {};  // for messages
    std::string text = {};
};

// The options of one program or subcommand:
//
//   int B = 4;
//   std::string model;
//   OptionSet set("kiln eval", "Computes the loss of a model on shards.", {"--model runs/mine --data shards"});
//   set.add(model, {.name = "model", .unit = "DIR", .help = "a checkpoint or a run", .required = true});
//   set.add(B, {.name = "batch-size", .short_name = "b", .help = "sequences in a micro-batch", .min = 1});
//   if (!set.parse(args)) return 0;  // --help, --version or --print-config
//
// The default is the value of the variable when it is added. Every set also has --help, --version, --config and
// --print-config. -h is --help too; where -h is an option of llm.c with a value, only -h without a value is.
class OptionSet {
public:
    using Target =
        std::variant<bool*, int*, int64_t*, uint64_t*, float*, double*, std::string*, std::vector<std::string>*>;

    // `examples` are command lines without the program's name. --help begins with them.
    OptionSet(std::string program, std::string description, std::vector<std::string> examples);
    OptionSet(const OptionSet&) = delete;  // options point into it

    void section(const std::string& title);  // the title in --help above the options that are added next
    // If T is bool, the option is a flag: --resume, --resume=0, -y 1. If T is a vector, it takes all values up to the
    // next option, and a repeated option appends. The variable must outlive the set.
    template <class T>
    void add(T& variable, const OptionSpec& spec) {
        add_target(&variable, spec);
    }
    // An argument without a name. They are read in the order in which they were added; a vector takes all that are
    // left.
    template <class T>
    void add_positional(T& variable, const OptionSpec& spec) {
        add_target(&variable, spec, true);
    }
    // An option of llm.c whose feature does not exist here: its `harmless` values are accepted and do nothing. Any
    // other value is a UsageError.
    void add_unavailable(const OptionSpec& spec, const std::vector<std::string>& harmless);

    // `args` do not include the program's name. Returns false if --help, --version or --print-config was given and its
    // text was printed: the program should then end. Throws UsageError that names the option, the text and what is
    // allowed. The values of `below` have the lowest precedence.
    bool parse(const std::vector<std::string>& args, const ConfigText& below = {});

    bool given(std::string_view name) const;  // by file, environment or command line
    // Where the value came from: "--batch-size", "KILN_BATCH_SIZE", "FILE:3: batch-size"; empty if it is the default.
    const std::string& source(std::string_view name) const;
    std::string help_text() const;
    // All values as a TOML file, which --config of the same program reads back.
    std::string to_toml() const;
    // All values as TOML writes them, by option name.
    std::map<std::string, std::string> values() const;

private:
    struct Option {
        OptionSpec spec;
        Target target;
        std::string section, default_text = {}, source = {};
        bool positional = false;
        bool available = true;
        std::vector<std::string> harmless = {};

        bool has_name(std::string_view name) const;  // the long name or a former one
        bool is_flag() const { return std::holds_alternative<bool*>(target) || !spec.implied.empty(); }
        bool is_list() const { return std::holds_alternative<std::vector<std::string>*>(target); }
        std::string spelled() const;  // "--batch-size (-b)"
        // Throws UsageError beginning with `where`.
        void set(const std::vector<std::string>& texts, const std::string& where);
        std::string toml_value() const;
    };
    // Values as they were written, by option name.
    using Texts = std::map<std::string, std::vector<std::string>>;

    void add_target(Target target, const OptionSpec& spec, bool positional = false);
    Option* find(std::string_view name);
    const Option* find(std::string_view name) const;
    Option* find_spelled(std::string_view argument);  // by "--name" or "-short"
    std::vector<std::string> names() const;
    Texts split(const std::vector<std::string>& args);
    void read_config(const ConfigText& config, bool below = false);
    void check_environment() const;

    std::string program_, description_, section_ = "Options";
    std::vector<std::string> examples_;
    std::vector<Option> options_;
    std::string config_file_;
    bool help_ = false, print_config_ = false, version_ = false;
    std::string unavailable_;  // the variable of all unavailable options: the program's name, for their error
};

}  // namespace kiln
