// The texts of an OptionSet: --help, --print-config, and the TOML file that --config reads.
#include <algorithm>
#include <set>
#include <sstream>

#include "cpu_reference/interface/error.h"
#include "tools/cli/options.h"
#include "tools/cli/synonyms.h"
#include "tools/cli/toml.h"

namespace kiln {

namespace {

const char* const kNotInFiles[] = {"help", "version", "config", "print-config"};

bool stands_in_files(const std::string& name) {
    return std::find(std::begin(kNotInFiles), std::end(kNotInFiles), name) == std::end(kNotInFiles);
}

std::string wrapped(const std::string& text, size_t indent, size_t width) {
    std::string out;
    size_t column = indent;
    std::istringstream words(text);
    for (std::string word; words >> word;) {
        if (column > indent && column + 1 + word.size() > width) {
            out += "\n" + std::string(indent, ' ');
            column = indent;
        } else if (column > indent) {
            out += ' ';
            column++;
        }
        out += word;  // \x1f in it is a space where no line ends
        column += word.size();
    }
    std::replace(out.begin(), out.end(), '\x1f', ' ');
    return out;
}

}  // namespace

std::string OptionSet::help_text() const {
    constexpr size_t kIndent = 38, kWidth = 118;
    std::string out = program_ + ": " + description_ + "\n\nExamples:\n";
    for (const std::string& example : examples_) out += "  " + program_ + " " + example + "\n";
    out += "\nUsage: " + program_ + " [OPTIONS]";
    for (const Option& option : options_) {
        if (option.spec.nameless) out += " [" + option.spec.unit + "]";
        if (!option.positional) continue;
        const std::string name = option.spelled() + (option.is_list() ? "..." : "");
        out += option.spec.required ? " " + name : " [" + name + "]";
    }
    out += "\n";
    std::string section;
    for (const Option& option : options_) {
        if (option.section != section) out += "\n" + (section = option.section) + ":\n";
        const OptionSpec& spec = option.spec;
        std::string unit = spec.unit;
        if (unit.empty() && !spec.choices.empty()) unit = "NAME";
        if (unit.empty() && !option.is_flag()) {
            unit = std::holds_alternative<std::string*>(option.target) ? "TEXT" : "N";
        }
        std::string left = "  ";
        if (option.positional) {
            left += option.spelled();
        } else {
            left += spec.short_name.empty() ? "     " : padded("-" + spec.short_name + ",", 5);
            left += "--" + spec.name + (option.is_flag() ? "" : " " + unit) + (option.is_list() ? "..." : "");
        }
        std::string right = spec.help;
        if (!spec.choices.empty()) right += " (" + join(spec.choices, " | ") + ")";
        if (!option.available) right += " (not available yet)";
        right += spec.required ? " [required]" : " [default:\x1f" + option.default_text + "]";
        left = left.size() + 2 > kIndent ? left + "\n" + std::string(kIndent, ' ') : padded(left, kIndent);
        out += left + wrapped(right, kIndent, kWidth) + "\n";
    }
    out += "\nEvery option can also be set in the --config file (name = value) or in the environment (KILN_NAME).\n";
    return out;
}

std::string OptionSet::to_toml() const {
    std::string out = "# " + program_ + "\n", section;
    for (const Option& option : options_) {
        if (option.positional || !option.available || !stands_in_files(option.spec.name)) continue;
        if (option.section != section) out += "\n# " + (section = option.section) + "\n";
        out += option.spec.name + " = " + option.toml_value() + "\n";
    }
    return out;
}

std::map<std::string, std::string> OptionSet::values() const {
    std::map<std::string, std::string> all;
    for (const Option& option : options_) {
        if (!option.available || !stands_in_files(option.spec.name)) continue;
        all[option.spec.name] = option.toml_value();
    }
    return all;
}

void OptionSet::read_config(const ConfigText& config, bool below) {
    std::set<std::string> seen;
    for (const TomlEntry& entry : parse_toml(config.text, config.file)) {
        std::string name = entry.name;
        std::replace(name.begin(), name.end(), '_', '-');
        const std::string where = concat(config.file, ":", entry.line, ": ", entry.name);
        Option* option = find(name);
        if (!option || option->positional || !stands_in_files(name)) {
            std::vector<std::string> keys;
            for (const Option& o : options_) {
                if (!o.positional && stands_in_files(o.spec.name)) keys.push_back("--" + o.spec.name);
            }
            throw UsageError(concat(where, " is not an option of ", program_, "; did you mean ",
                                    meant_option("--" + name, keys).substr(2), "?"));
        }
        // The run of an earlier version, which only ignored this option.
        const bool text = std::holds_alternative<std::string*>(option->target) && option->spec.choices.empty();
        if (below && !text && !option->is_list() && entry.texts == std::vector<std::string>{""}) continue;
        if (!seen.insert(option->spec.name).second)
            throw UsageError(where + " is given twice; remove one of the lines");
        option->set(entry.texts, where);
    }
}

}  // namespace kiln
