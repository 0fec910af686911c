#pragma once
// Every option once: long name, llm.c's short name, unit, range, default, help, section. Values come from --config
// FILE, then the environment (KILN_BATCH_SIZE for --batch-size), then the command line; the later wins.
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace kiln {

struct OptionSpec {
    std::string name = {};        // long, without dashes: "batch-size"
    std::string short_name = {};  // without its dash, several letters allowed: "nk"; empty: none
    std::string unit = {};        // what stands for the value in --help: TOKENS, FILE, SECONDS; empty: by type
    std::string help = {};        // one line; says what 0 or an empty value means
    double min = -std::numeric_limits<double>::infinity();  // numbers only, both ends included
    double max = std::numeric_limits<double>::infinity();
    std::vector<std::string> choices = {};  // strings only: the values allowed
    std::string zero = {};                  // whole numbers only: another spelling of 0, which min may exclude
    bool required = false;                  // a UsageError if nobody gave it
};

// The options of one program or subcommand:
//
//   int B = 4;
//   std::string model;
//   OptionSet set("kiln eval", "Loss, perplexity and bits per byte of a model on shards");
//   set.add(model, {.name = "model", .unit = "DIR", .help = "checkpoint or run", .required = true});
//   set.add(B, {.name = "batch-size", .short_name = "b", .unit = "ROWS", .help = "rows of a batch", .min = 1});
//   if (!set.parse(args)) return 0;  // --help or --print-config was asked for and has been answered
//
// The default is what the variable holds when it is added. Options every set has: --help (-h unless taken), --config,
// --print-config.
class OptionSet {
public:
    using Target =
        std::variant<bool*, int*, int64_t*, uint64_t*, float*, double*, std::string*, std::vector<std::string>*>;

    OptionSet(std::string program, std::string description);
    OptionSet(const OptionSet&) = delete;  // options point into it

    void section(const std::string& title);  // the options added next stand under it in --help
    // A bool is a flag: --resume, --resume=0, -y 1. A vector takes all values up to the next option, and repeats add.
    // The variable must outlive the set.
    template <class T>
    void add(T& variable, const OptionSpec& spec) {
        add_target(&variable, spec);
    }
    // An argument without a name, in the order added; a vector takes all that are left. Optional unless spec.required.
    template <class T>
    void add_positional(T& variable, const OptionSpec& spec) {
        add_target(&variable, spec, true);
    }
    // A known option whose feature does not exist yet: its `harmless` values are accepted and do nothing, any other is
    // a UsageError "... is not available in PROGRAM".
    void add_unavailable(const OptionSpec& spec, const std::vector<std::string>& harmless);

    // Arguments without the program's name. False: --help or --print-config has been answered on standard output and
    // the program is done. Throws UsageError naming the option, the text and what is allowed.
    bool parse(const std::vector<std::string>& args);

    bool given(std::string_view name) const;  // by file, environment or command line
    // Where the value came from: "--batch-size", "KILN_BATCH_SIZE", "FILE:3: batch-size"; empty if it is the default.
    const std::string& source(std::string_view name) const;
    std::string help_text() const;
    // Every value as TOML; as --config of the same program it gives the same values.
    std::string to_toml() const;
    // Every value as TOML writes it, by name.
    std::map<std::string, std::string> values() const;

private:
    struct Option {
        OptionSpec spec;
        Target target;
        std::string section, default_text = {}, source = {};
        bool positional = false;
        bool available = true;
        std::vector<std::string> harmless = {};

        bool is_flag() const { return std::holds_alternative<bool*>(target); }
        bool is_list() const { return std::holds_alternative<std::vector<std::string>*>(target); }
        std::string spelled() const;  // "--batch-size (-b)"
        // Throws UsageError beginning with `where`.
        void set(const std::vector<std::string>& texts, const std::string& where);
        std::string toml_value() const;
    };
    // Values as they were found, by option name.
    using Texts = std::map<std::string, std::vector<std::string>>;

    void add_target(Target target, const OptionSpec& spec, bool positional = false);
    Option* find(std::string_view name);  // by long name
    const Option* find(std::string_view name) const;
    Option* find_spelled(std::string_view argument);  // by "--name" or "-short"
    std::vector<std::string> names() const;
    std::vector<std::string> normalise(const std::vector<std::string>& args);
    Texts split(const std::vector<std::string>& args);
    void read_config(const std::string& path);
    void check_environment() const;

    std::string program_, description_, section_ = "Options";
    std::vector<Option> options_;
    std::string config_file_;
    bool help_ = false, print_config_ = false;
    // Storage of what add_unavailable's options hold.
    std::string unavailable_;
};

// Letters to change, insert, leave out or swap to make one of the other.
size_t edit_distance(std::string_view a, std::string_view b);

// "a, b" and "c" to a, b and c, without the spaces at their ends; what is empty is left out.
std::vector<std::string> split_at_commas(const std::vector<std::string>& lists);
// The one of `candidates` with the fewest letters to change, insert, leave out or swap to make it `word`; empty if
// there are none.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace kiln
