#include "tools/cli/options.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <type_traits>
#include <utility>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/file.h"
#include "tools/cli/synonyms.h"
#include "tools/cli/toml.h"
#include "tools/cli/version.h"

namespace kiln {

namespace {

// The shortest text that is read back as the same number.
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
        // The limits of the type are told only where the option sets none.
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

std::string environment_name(const std::string& option) {
    std::string name = "KILN_";
    for (const char c : option) name += c == '-' ? '_' : char(std::toupper(static_cast<unsigned char>(c)));
    return name;
}

}  // namespace

// Without this check a misspelt KILN_MAX_STEP would be ignored. A name that is far from all of ours may belong to
// another program.
void OptionSet::check_environment() const {
    std::vector<std::string> ours;
    for (const Option& option : options_) {
        ours.push_back(environment_name(option.spec.name));
        for (const std::string& name : option.spec.former_names) ours.push_back(environment_name(name));
    }
    for (char** entry = environ; *entry; entry++) {
        const std::string_view text(*entry), name = text.substr(0, text.find('='));
        if (!name.starts_with("KILN_") || std::find(ours.begin(), ours.end(), name) != ours.end()) continue;
        const std::string meant = nearest(name, ours);
        if (edit_distance(name, meant) > 2) continue;
        throw UsageError(
            concat(name, " in the environment is not an option of ", program_, "; did you mean ", meant, "?"));
    }
}

bool OptionSet::Option::has_name(std::string_view name) const {
    const auto& former = spec.former_names;
    return spec.name == name || std::find(former.begin(), former.end(), name) != former.end();
}

std::string OptionSet::Option::spelled() const {
    if (positional) return spec.unit.empty() ? spec.name : spec.unit;
    return "--" + spec.name + (spec.short_name.empty() ? "" : " (-" + spec.short_name + ")");
}

void OptionSet::Option::set(const std::vector<std::string>& texts, const std::string& where) {
    if (!is_list() && texts.size() != 1) throw UsageError(where + ": takes one value, not a list");
    const bool empty = std::find(texts.begin(), texts.end(), "") != texts.end();
    if (spec.required && empty) throw UsageError(concat(where, ": must not be empty: ", spec.help));
    if (!available && std::find(harmless.begin(), harmless.end(), texts[0]) == harmless.end()) {
        throw UsageError(concat(where, " ", texts[0], ": ", spec.help, " is not available in ",
                                *std::get<std::string*>(target), "; leave the option out or set it to ",
                                join(harmless, " or ")));
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

OptionSet::OptionSet(std::string program, std::string description, std::vector<std::string> examples)
    : program_(std::move(program)),
      description_(std::move(description)),
      examples_(std::move(examples)),
      unavailable_(program_) {}

void OptionSet::section(const std::string& title) {
    section_ = title;
}

void OptionSet::add_target(Target target, const OptionSpec& spec, bool positional) {
    Option option{.spec = spec, .target = target, .section = section_, .positional = positional};
    const std::string value = option.toml_value();
    option.default_text = !spec.default_help.empty()         ? spec.default_help
                          : value == "\"\"" || value == "[]" ? "none"
                          : value.starts_with('"')           ? value.substr(1, value.size() - 2)
                                                             : value;
    options_.push_back(std::move(option));
}

void OptionSet::add_unavailable(const OptionSpec& spec, const std::vector<std::string>& harmless) {
    add_target(&unavailable_, spec);
    options_.back().available = false;
    options_.back().harmless = harmless;
    options_.back().default_text = harmless[0];
}

const OptionSet::Option* OptionSet::find(std::string_view name) const {
    const auto found =
        std::find_if(options_.begin(), options_.end(), [&](const Option& o) { return o.has_name(name); });
    return found == options_.end() ? nullptr : &*found;
}

OptionSet::Option* OptionSet::find(std::string_view name) {
    return const_cast<Option*>(std::as_const(*this).find(name));
}

OptionSet::Option* OptionSet::find_spelled(std::string_view argument) {
    std::string name(argument.substr(std::min<size_t>(2, argument.size())));
    std::replace(name.begin(), name.end(), '_', '-');  // Python's programs have underscores
    for (Option& option : options_) {
        if (option.positional) continue;
        if (argument.starts_with("--") && option.has_name(name)) return &option;
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

// llm.c's names have several letters behind one dash (-nk), a value may begin with a dash (-x -1), and the value of a
// flag may be an argument of its own (-y 1). So an argument is an option only if it is the name of one.
OptionSet::Texts OptionSet::split(const std::vector<std::string>& args) {
    Texts texts;
    const auto take = [&](const Option& option, const std::string& text) {
        std::vector<std::string>& values = texts[option.spec.name];
        if (!option.is_list()) values.clear();
        values.push_back(text);
    };
    const auto take_positional = [&](const std::string& text) {
        for (const Option& option : options_) {
            if (!option.positional && !option.spec.nameless) continue;
            if (!option.is_list() && texts.contains(option.spec.name)) continue;
            return take(option, text);
        }
        throw UsageError(concat("unexpected argument \"", text, "\"; see ", program_, " --help"));
    };
    const auto named = [&](const std::string& argument) {
        return find_spelled(argument.substr(0, argument.find('=')));
    };
    for (size_t i = 0; i < args.size(); i++) {
        if (args[i] == "--") {  // all that follow are positional
            while (++i < args.size()) take_positional(args[i]);
            break;
        }
        const Option* option = named(args[i]);
        const size_t equals = args[i].find('=');
        const auto has_value = [&] { return i + 1 < args.size() && args[i + 1] != "--" && !named(args[i + 1]); };
        if (!option) {
            const std::string name = args[i].substr(0, equals);
            if (!name.starts_with("-") || name == "-") {
                take_positional(args[i]);
                continue;
            }
            throw UsageError(concat("unknown option ", name, "; did you mean ", meant_option(name, names()), "? See ",
                                    program_, " --help"));
        }
        if (equals != std::string::npos) {
            take(*option, args[i].substr(equals + 1));
        } else if (option->spec.short_name == "h" && args[i] == "-h" && !has_value()) {
            take(*find("help"), "true");  // llm.c's -h has a value
        } else if (option->is_flag()) {
            const bool implied = !option->spec.implied.empty();
            const bool next = !implied && has_value() && is_bool_text(args[i + 1]);
            take(*option, next ? args[++i] : implied ? option->spec.implied : "true");
        } else if (!has_value()) {
            throw UsageError(concat(option->spelled(), " needs a value: ", option->spec.help));
        } else {
            do {
                take(*option, args[++i]);
            } while (option->is_list() && has_value() && !args[i + 1].starts_with("-"));
        }
    }
    return texts;
}

bool OptionSet::parse(const std::vector<std::string>& args, const ConfigText& below) {
    section("This program");
    if (!find("config")) {
        add(version_, {.name = "version", .help = "print the version, and stop"});
        add(config_file_, {.name = "config",
                           .unit = "FILE",
                           .help = "a TOML file of options, in the form that --print-config writes",
                           .default_help = "none"});
        add(print_config_, {.name = "print-config", .help = "print the values of all options as TOML, and stop"});
        add(help_, {.name = "help", .short_name = find_spelled("-h") ? "" : "h", .help = "print this text, and stop"});
    }
    const Texts command_line = split(args);

    if (command_line.contains("help")) find("help")->set(command_line.at("help"), "--help");
    if (help_) {
        std::cout << help_text();
        return false;
    }
    if (command_line.contains("version")) find("version")->set(command_line.at("version"), "--version");
    if (version_) {
        std::cout << program_ << " " << kVersion << "\n";
        return false;
    }
    const char* from_environment = std::getenv("KILN_CONFIG");
    std::string config = from_environment ? from_environment : "";
    if (command_line.contains("config")) config = command_line.at("config")[0];
    read_config(below, true);
    try {
        if (!config.empty()) read_config({config, read_file(config, kMaxConfigBytes)});
    } catch (const UsageError&) {
        throw;
    } catch (const Error& error) {
        throw UsageError(concat("--config: ", error.what()));
    }
    for (Option& option : options_) {
        if (option.positional || option.spec.name == "version") continue;  // KILN_VERSION is not ours
        std::vector<std::string> names = option.spec.former_names;
        names.push_back(option.spec.name);  // the last one wins
        for (const std::string& name : names) {
            const std::string variable = environment_name(name);
            const char* value = std::getenv(variable.c_str());
            const bool none = !value || (option.spec.required && *value == '\0');
            if (!none) option.set({value}, variable);
        }
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
