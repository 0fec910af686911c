#include "tools/train/summary.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"
#include "tools/checkpoint/links.h"
#include "tools/checkpoint/names.h"

namespace kiln {

namespace {

// `text` as one word of a shell.
std::string shell_word(const std::string& text) {
    const auto plain = [](unsigned char c) {
        return std::isalnum(c) || std::string_view("_./:=,+@%-").find(char(c)) != std::string_view::npos;
    };
    if (!text.empty() && std::ranges::all_of(text, plain)) return text;
    std::string quoted = "'";
    for (const char c : text) quoted += c == '\'' ? "'\\''" : std::string(1, c);
    return quoted + "'";
}

// The commands that most users want after a run; the first is the nearest to what the run was for.
std::vector<std::string> next_commands(const RunSummary& s, const TrainPlan& plan, const ProgramNames& names,
                                       const std::string& model) {
    const TrainOptions& o = plan.options;
    const bool finished = s.step >= s.total_steps;
    const std::string resume = concat(names.trainer, " -o ", shell_word(o.output), " --resume");
    const std::string data = shell_word(o.val_data.empty() ? o.data : o.val_data), of = " --model " + shell_word(model);
    std::vector<std::string> commands = {
        plan.tokenizer.empty() ? names.kiln + " inspect " + shell_word(model)
                               : names.kiln + " generate" + of + " --temperature 0.8 --top-k 50",
        names.kiln + " eval" + of + " --data " + data,
    };
    commands.insert(finished ? commands.end() : commands.begin(),
                    finished ? concat(resume, " -x ", 2 * std::max<int64_t>(1, s.total_steps)) : resume);
    return commands;
}

}  // namespace

std::string summary_text(const RunSummary& s, const TrainPlan& plan, const ProgramNames& names) {
    std::string text = concat("trained to step ", s.step, " of ", s.total_steps, " in ", duration_text(s.seconds));
    if (s.steps > 0) text += concat(", ", count_text(s.tokens_per_second), " tokens/s");
    if (s.best) {
        text += formatted("\nbest validation loss %.4f (perplexity %.2f) at step %.0f", s.best->loss,
                          std::exp(s.best->loss), s.best->step) +
                s.validated_part;
    }
    const std::filesystem::path run = plan.options.output;
    if (plan.options.output.empty() || list_checkpoints(run).empty()) return text;
    std::filesystem::path model = run;  // where the file system has no links
    text += "\ncheckpoint ";
    if (const auto newest = linked_checkpoint(run, kModelLink)) {
        model = run / kModelLink;
        text += concat(model.string(), " -> ", newest->filename().string());
    } else {
        text += list_checkpoints(run)[0].directory.string();
    }
    if (const auto best = linked_checkpoint(run, kBestLink)) {
        const std::string link = concat((run / kBestLink).string(), " -> ", best->filename().string());
        try {
            resolve_model_directory(*best);
            model = run / kBestLink;
            const bool saved = s.best && step_of(best->filename().string()) == int64_t(s.best->step);
            text += concat(saved ? "; the best is " : "; the best that was saved is ", link);
        } catch (const Error& error) {
            text += concat("; the best, ", link, ", is damaged: ", error.what());
        }
    }
    text += "\nnext:";
    for (const std::string& command : next_commands(s, plan, names, model.string())) text += "\n  " + command;
    return text;
}

}  // namespace kiln
