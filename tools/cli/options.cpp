#include "tools/cli/options.h"

#include <unistd.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <type_traits>

#include "cpu_reference/interface/error.h"

namespace kiln {

namespace {

// The shortest text that reads back as the same number.
template <class T>
std::string number_text(T value) {
    char buffer[64];
    const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
    return std::string(buffer, end);
}

template <class T>
std::string range_text(const OptionSpec& spec) {
    double low = spec.min, high = spec.max;
    if constexpr (std::is_integral_v<T> && sizeof(T) == 8) {
        if (std::isinf(low) && std::isinf(high)) return "it must fit 64 bits";
        if (std::isinf(high)) return concat("it must be at least ", number_text(low), " and fit 64 bits");
    }
    if constexpr (std::is_integral_v<T>) {
        // The type's own limits are worth saying only when the option sets none.
        low = std::max(low, double(std::numeric_limits<T>::min()));
        high = std::min(high, double(std::numeric_limits<T>::max()));
    }
    if (std::isinf(low) && std::isinf(high)) return "any finite number is allowed";
    if (std::isinf(high)) return "it must be at least " + number_text(low);
    if (std::isinf(low)) return "it must be at most " + number_text(high);
    return concat("it must lie in [", number_text(low), ", ", number_text(high), "]");
}

template <class T>
T parse_number(const std::string& text, const OptionSpec& spec, const std::string& where) {
    T value{};
    const char* end = text.data() + text.size();
    const auto [stop, status] = std::from_chars(text.data(), end, value);
    const char* kind = std::is_integral_v<T> ? "a whole number" : "a number";
    const bool is_number = stop == end && status != std::errc::invalid_argument && !text.empty();
    if (!is_number) {
        throw UsageError(concat(where, ": \"", text, "\" is not ", kind, "; ", range_text<T>(spec)));
    }
    const bool fits = status == std::errc() && std::isfinite(double(value));
    // In the option's own type: 0.1f read as a double would lie outside [0, 0.1].
    const bool in_range =
        fits && (std::isinf(spec.min) || value >= T(spec.min)) && (std::isinf(spec.max) || value <= T(spec.max));
    if (!in_range) throw UsageError(concat(where, ": ", text, " is out of range; ", range_text<T>(spec)));
    return value;
}

bool parse_bool(const std::string& text, const std::string& where) {
    if (text == "1" || text == "true" || text == "yes" || text == "on") return true;
    if (text == "0" || text == "false" || text == "no" || text == "off") return false;
    throw UsageError(concat(where, ": \"", text, "\" is neither true (1) nor false (0)"));
}

bool is_bool_text(const std::string& text) {
    static const char* const kTexts[] = {"0", "1", "true", "false", "yes", "no", "on", "off"};
    return std::find(std::begin(kTexts), std::end(kTexts), text) != std::end(kTexts);
}

std::string join(const std::vector<std::string>& parts, const char* separator) {
    std::string all;
    for (const std::string& part : parts) all += (all.empty() ? "" : separator) + part;
    return all;
}

std::string quote_toml(const std::string& text) {
    std::string quoted = "\"";
    for (const char c : text) {
        const unsigned char byte = c;
        if (c == '"' || c == '\\') {
            quoted += {'\\', c};
        } else if (byte < 0x20 || byte == 0x7F) {
            char escape[8];
            std::snprintf(escape, sizeof escape, "\\u%04X", unsigned(byte));
            quoted += escape;
        } else {
            quoted += c;
        }
    }
    return quoted + '"';
}

std::string environment_name(const std::string& option) {
    std::string name = "KILN_";
    for (const char c : option) name += c == '-' ? '_' : char(std::toupper(static_cast<unsigned char>(c)));
    return name;
}

}  // namespace

size_t edit_distance(std::string_view a, std::string_view b) {
    // Damerau-Levenshtein, neighbours swapped counted as one; rows i - 2, i - 1 and i of the table.
    std::vector<size_t> before, previous(b.size() + 1), row(b.size() + 1);
    for (size_t j = 0; j <= b.size(); j++) previous[j] = j;
    for (size_t i = 1; i <= a.size(); i++) {
        row[0] = i;
        for (size_t j = 1; j <= b.size(); j++) {
            const bool same = a[i - 1] == b[j - 1];
            row[j] = std::min({previous[j] + 1, row[j - 1] + 1, previous[j - 1] + !same});
            const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped) row[j] = std::min(row[j], before[j - 2] + 1);
        }
        before = previous;
        previous = row;
    }
    return previous[b.size()];
}

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
    const auto best = std::min_element(candidates.begin(), candidates.end(), [&](const auto& a, const auto& b) {
        return edit_distance(word, a) < edit_distance(word, b);
    });
    return best == candidates.end() ? "" : *best;
}

// A misspelt KILN_MAX_STEP would otherwise be ignored. Names far from any of ours may be another program's.
void OptionSet::check_environment() const {
    std::vector<std::string> ours;
    for (const Option& option : options_) ours.push_back(environment_name(option.spec.name));
    for (char** entry = environ; *entry; entry++) {
        const std::string_view text(*entry), name = text.substr(0, text.find('='));
        if (!name.starts_with("KILN_") || std::find(ours.begin(), ours.end(), name) != ours.end()) continue;
        const std::string meant = nearest(name, ours);
        if (edit_distance(name, meant) > 2) continue;
        throw UsageError(concat(name, " in the environment is no option of ", program_, "; did you mean ", meant, "?"));
    }
}

std::string OptionSet::Option::spelled() const {
    if (positional) return spec.unit.empty() ? spec.name : spec.unit;
    return "--" + spec.name + (spec.short_name.empty() ? "" : " (-" + spec.short_name + ")");
}

void OptionSet::Option::set(const std::vector<std::string>& texts, const std::string& where) {
    if (!is_list() && texts.size() != 1) throw UsageError(where + ": takes one value, not a list");
    if (!available && std::find(harmless.begin(), harmless.end(), texts[0]) == harmless.end()) {
        throw UsageError(concat(where, " ", texts[0], ": ", spec.help, " is not available in ",
                                *std::get<std::string*>(target), " yet; leave the option out",
                                harmless.empty() ? "" : " or set it to " + join(harmless, " or ")));
    }
    source = where;
    if (!available) return;
    std::visit(
        [&](auto* variable) {
            using T = std::remove_pointer_t<decltype(variable)>;
            if constexpr (std::is_same_v<T, bool>) {
                *variable = parse_bool(texts[0], where);
            } else if constexpr (std::is_arithmetic_v<T>) {
                const bool zero = !spec.zero.empty() && texts[0] == spec.zero;
                *variable = zero ? T(0) : parse_number<T>(texts[0], spec, where);
            } else if constexpr (std::is_same_v<T, std::string>) {
                const auto& choices = spec.choices;
                if (!choices.empty() && std::find(choices.begin(), choices.end(), texts[0]) == choices.end()) {
                    throw UsageError(concat(where, ": \"", texts[0], "\" is not one of ", join(choices, ", "),
                                            "; did you mean ", nearest(texts[0], choices), "?"));
                }
                *variable = texts[0];
            } else {
                *variable = texts;
            }
        },
        target);
}

std::string OptionSet::Option::toml_value() const {
    return std::visit(
        [&](const auto* variable) -> std::string {
            using T = std::remove_cv_t<std::remove_pointer_t<decltype(variable)>>;
            if constexpr (std::is_same_v<T, bool>) {
                return *variable ? "true" : "false";
            } else if constexpr (std::is_arithmetic_v<T>) {
                if (*variable == T(0) && !spec.zero.empty()) return quote_toml(spec.zero);
                return number_text(*variable);
            } else if constexpr (std::is_same_v<T, std::string>) {
                return quote_toml(*variable);
            } else {
                std::vector<std::string> quoted;
                for (const std::string& text : *variable) quoted.push_back(quote_toml(text));
                return "[" + join(quoted, ", ") + "]";
            }
        },
        target);
}

OptionSet::OptionSet(std::string program, std::string description)
    : program_(std::move(program)), description_(std::move(description)), unavailable_(program_) {}

void OptionSet::section(const std::string& title) {
    section_ = title;
}

void OptionSet::add_target(Target target, const OptionSpec& spec, bool positional) {
    Option option{.spec = spec, .target = target, .section = section_, .positional = positional};
    option.default_text = option.toml_value();
    options_.push_back(std::move(option));
}

void OptionSet::add_unavailable(const OptionSpec& spec, const std::vector<std::string>& harmless) {
    add_target(&unavailable_, spec);
    options_.back().available = false;
    options_.back().harmless = harmless;
}

const OptionSet::Option* OptionSet::find(std::string_view name) const {
    const auto found =
        std::find_if(options_.begin(), options_.end(), [&](const Option& o) { return o.spec.name == name; });
    return found == options_.end() ? nullptr : &*found;
}

OptionSet::Option* OptionSet::find(std::string_view name) {
    return const_cast<Option*>(std::as_const(*this).find(name));
}

OptionSet::Option* OptionSet::find_spelled(std::string_view argument) {
    for (Option& option : options_) {
        if (option.positional) continue;
        if (argument == "--" + option.spec.name) return &option;
        if (!option.spec.short_name.empty() && argument == "-" + option.spec.short_name) return &option;
    }
    return nullptr;
}

std::vector<std::string> OptionSet::names() const {
    std::vector<std::string> all = {"--help", "--config", "--print-config"};
    for (const Option& option : options_) {
        if (option.positional) continue;
        all.push_back("--" + option.spec.name);
        if (!option.spec.short_name.empty()) all.push_back("-" + option.spec.short_name);
    }
    return all;
}

bool OptionSet::given(std::string_view name) const {
    return !source(name).empty();
}

const std::string& OptionSet::source(std::string_view name) const {
    const Option* option = find(name);
    KILN_CHECK(option, program_, " has no option --", name, "; this is a bug");
    return option->source;
}

// llm.c's names have several letters behind one dash, which CLI11 would read as single letters; a value may begin with
// a dash; a flag's value may stand apart (-y 1). So every option comes out as --name=value, each value of a list too.
std::vector<std::string> OptionSet::normalise(const std::vector<std::string>& args) {
    std::vector<std::string> out;
    const auto emit = [&](const Option& option, const std::string& value) {
        // CLI11 takes "--name=" for an option that waits for the next argument.
        if (value.empty()) {
            out.push_back("--" + option.spec.name);
            out.push_back("");
        } else {
            out.push_back(concat("--", option.spec.name, "=", value));
        }
    };
    for (size_t i = 0; i < args.size(); i++) {
        if (args[i] == "--") {
            out.insert(out.end(), args.begin() + long(i), args.end());
            break;
        }
        const size_t equals = args[i].find('=');
        const Option* option = find_spelled(args[i].substr(0, equals));
        if (!option) {
            out.push_back(args[i]);
            continue;
        }
        if (equals != std::string::npos) {
            emit(*option, args[i].substr(equals + 1));
            continue;
        }
        const auto has_value = [&] {
            if (i + 1 >= args.size() || args[i + 1] == "--") return false;
            return find_spelled(args[i + 1].substr(0, args[i + 1].find('='))) == nullptr;
        };
        if (option->is_flag()) {
            emit(*option, has_value() && is_bool_text(args[i + 1]) ? args[++i] : "true");
            continue;
        }
        if (!has_value())
            throw UsageError(concat(option->spelled(), " needs a value: ", option->spec.help,
                                    option->spec.short_name == "h" ? "; for help use --help" : ""));
        do {
            emit(*option, args[++i]);
        } while (option->is_list() && has_value() && !args[i + 1].starts_with("-"));
    }
    return out;
}

OptionSet::Texts OptionSet::split(const std::vector<std::string>& args) {
    CLI::App app;
    app.set_help_flag();
    app.allow_extras();
    std::map<std::string, CLI::Option*> parsed;
    for (const Option& option : options_) {
        CLI::Option* cli = app.add_option(option.positional ? option.spec.name : "--" + option.spec.name);
        cli->expected(option.positional && option.is_list() ? -1 : 1);
        cli->multi_option_policy(option.is_list() ? CLI::MultiOptionPolicy::TakeAll : CLI::MultiOptionPolicy::TakeLast);
        parsed[option.spec.name] = cli;
    }
    std::vector<std::string> reversed = normalise(args);  // CLI11 takes its arguments from the back
    std::reverse(reversed.begin(), reversed.end());
    try {
        app.parse(reversed);
    } catch (const CLI::ParseError& error) {
        throw UsageError(concat(error.what(), "; see ", program_, " --help"));
    }
    for (const std::string& extra : app.remaining()) {
        const std::string name = extra.substr(0, extra.find('='));
        if (name.starts_with("-") && name.size() > 1) {
            throw UsageError(concat("unknown option ", name, "; did you mean ", nearest(name, names()), "? See ",
                                    program_, " --help"));
        }
        throw UsageError(concat("unexpected argument \"", extra, "\"; see ", program_, " --help"));
    }
    Texts texts;
    for (const auto& [name, option] : parsed) {
        const std::vector<std::string>& results = option->results();
        if (results.empty()) continue;
        if (find(name)->is_list()) {
            texts[name] = results;
        } else {
            texts[name] = {results.back()};
        }
    }
    return texts;
}

bool OptionSet::parse(const std::vector<std::string>& args) {
    section("This program");
    if (!find("config")) {
        add(config_file_,
            {.name = "config", .unit = "FILE", .help = "TOML file of options, as --print-config writes it"});
        add(print_config_, {.name = "print-config", .help = "print every option's value as TOML and stop"});
        add(help_, {.name = "help", .short_name = find_spelled("-h") ? "" : "h", .help = "this text"});
    }
    const Texts command_line = split(args);

    if (command_line.contains("help")) find("help")->set(command_line.at("help"), "--help");
    if (help_) {
        std::cout << help_text();
        return false;
    }
    const char* from_environment = std::getenv("KILN_CONFIG");
    std::string config = from_environment ? from_environment : "";
    if (command_line.contains("config")) config = command_line.at("config")[0];
    if (!config.empty()) read_config(config);
    for (Option& option : options_) {
        const std::string name = environment_name(option.spec.name);
        const char* value = option.positional ? nullptr : std::getenv(name.c_str());
        if (value) option.set({value}, name);
    }
    check_environment();
    for (const auto& [name, texts] : command_line) find(name)->set(texts, find(name)->spelled());

    if (print_config_) {
        std::cout << to_toml();
        return false;
    }
    for (const Option& option : options_) {
        if (option.spec.required && option.source.empty()) {
            throw UsageError(
                concat(option.spelled(), " is required: ", option.spec.help, "; see ", program_, " --help"));
        }
    }
    return true;
}

}  // namespace kiln
