// kiln generate: text from a model.
#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <map>
#include <utility>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/line_reader.h"
#include "tokenizer/unicode/utf8.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/checkpoint/model_directory.h"
#include "tools/checkpoint/model_files.h"
#include "tools/cli/allow_special.h"
#include "tools/cli/options.h"
#include "tools/cli/threads.h"
#include "tools/commands/commands.h"
#include "tools/generate/generator.h"
#include "tools/generate/prompt.h"

namespace kiln {
namespace {

struct Arguments {
    std::string model, tokenizer, prompt_file, dtype = "auto";
    std::vector<std::string> prompts;
    GenerateOptions generation;
    SamplerOptions sampling;
    AllowSpecial special;
    int num_samples = 1, threads = 0;
    bool interactive = false, ignore_eos = false, echo = true, raw = false;
};

bool parse(const std::vector<std::string>& args, Arguments& a) {
    OptionSet set(
        "kiln generate",
        "Generates text with a model and writes it to standard output; token counts and times go to standard error. A "
        "line `---` separates several samples.",
        {"--model runs/mine --prompt 'Once upon a time' --temperature 0.8 --top-k 50",
         "--model runs/mine/best --interactive",
         "--model models/gpt2 --prompt-file prompts.txt --num-samples 3 --max-new-tokens 100"});
    add_model_option(set, a.model);
    set.add(a.tokenizer, {.name = "tokenizer",
                          .unit = "DIR",
                          .help = "the tokenizer to use",
                          .default_help = "the tokenizer of the model"});
    set.add(a.prompts, {.name = "prompt",
                        .unit = "TEXT",
                        .help = "text to continue; several prompts are allowed, and each is continued. FILE:path: the "
                                "whole text of a file is one prompt. Empty: the start of a document"});
    set.add(
        a.prompt_file,
        {.name = "prompt-file", .unit = "FILE", .help = "a file with one prompt per line; blank lines are skipped"});
    set.add(a.interactive,
            {.name = "interactive", .help = "read prompts from standard input, one per line, until its end (Ctrl-D)"});
    add_allow_special(set, a.special);
    set.add(a.raw, {.name = "raw", .help = "print bytes that are not UTF-8 unchanged; without it, they become U+FFFD"});
    set.section("Sampling");
    set.add(a.generation.max_new_tokens,
            {.name = "max-new-tokens", .unit = "TOKENS", .help = "maximum tokens to generate per sample", .min = 1});
    set.add(
        a.sampling.temperature,
        {.name = "temperature", .help = "sampling temperature; 0: always the most likely token", .min = 0, .max = 100});
    set.add(a.sampling.top_k,
            {.name = "top-k", .unit = "N", .help = "sample among the N most likely tokens; 0: among all", .min = 0});
    set.add(a.sampling.top_p, {.name = "top-p",
                               .unit = "FRACTION",
                               .help = "sample among the most likely tokens that together have this probability; 1: "
                                       "among all",
                               .min = 1e-6,
                               .max = 1});
    set.add(a.num_samples, {.name = "num-samples", .unit = "N", .help = "samples per prompt", .min = 1, .max = 1e6});
    set.add(a.sampling.seed, {.name = "seed",
                              .help = "seed of the samples: the same seed and prompt give the same samples, whatever "
                                      "other prompts there are; a prompt that is given again gets further samples"});
    set.add(a.ignore_eos, {.name = "ignore-eos", .help = "continue after the end-of-text token"});
    set.add(a.echo, {.name = "echo", .help = "print the prompt before the generated text; --echo=0: do not"});
    set.section("Machine");
    set.add(a.generation.max_slots,
            {.name = "slots",
             .unit = "N",
             .help = "sequences that are generated at once; more slots need more memory for the KV cache",
             .min = 1,
             .max = 4096});
    add_machine_options(set, a.dtype, a.threads);
    if (!set.parse(args)) return false;
    if (a.interactive && (!a.prompts.empty() || !a.prompt_file.empty())) {
        throw UsageError("--interactive reads prompts from standard input; leave out --prompt and --prompt-file");
    }
    return true;
}

std::vector<std::string> prompts_of(const Arguments& a) {
    std::vector<std::string> texts;
    for (const std::string& prompt : a.prompts) texts.push_back(prompt_text(prompt));
    if (!a.prompt_file.empty()) {
        for (const std::string& prompt : prompts_in_lines(a.prompt_file)) texts.push_back(prompt);
    }
    if (texts.empty()) texts.push_back("");
    return texts;
}

class Session {
public:
    Session(const Arguments& arguments, Precision precision)
        : arguments_(arguments),
          directory_(find_model(arguments.model)),
          engine_(open_engine(directory_, {.B = 1, .T = 1, .training = false, .precision = precision})),
          tokenizer_(open_tokenizer(arguments.tokenizer, directory_, engine_->config())),
          allowed_(arguments.special.ids(tokenizer_)),
          end_of_text_(end_of_text_of(tokenizer_)) {
        arguments_.sampling.vocab_size = std::min(tokenizer_.vocab_size(), engine_->config().V);
        if (arguments.ignore_eos) return;
        // transformers does not look at the tokenizer. But a model that came without one may end with this one's token.
        std::vector<int>& stop = arguments_.generation.stop_tokens = stop_tokens(directory_);
        if (stop.empty() && find_tokenizer(directory_).empty() && end_of_text_) stop = {*end_of_text_};
    }

    void run(const std::vector<std::string>& prompts, bool echo) {
        std::vector<GenerateRequest> requests;
        for (const std::string& prompt : prompts) {
            const std::vector<int> ids = encode(prompt);
            for (int i = 0; i < arguments_.num_samples; i++) requests.push_back({ids, samples_[ids]++});
        }
        const bool stream = requests.size() == 1;
        const auto text_of = [&](size_t request) {
            return echo ? prompts[request / arguments_.num_samples] : std::string();
        };
        // Samples finish in any order. They are printed in the order of the prompts.
        std::vector<std::optional<Generated>> done(requests.size());
        size_t printed = 0;
        DecodeStream decoder(tokenizer_, !prompts[0].empty());
        std::string lead = text_of(0);  // printed after the prompt was accepted
        const auto on_token = [&](size_t, int token) {
            if (stream) print(std::exchange(lead, "") + decoder.push(token));
        };
        const auto on_done = [&](size_t request, const Generated& result) {
            done[request] = result;
            if (stream) return print(std::exchange(lead, "") + decoder.finish() + "\n");
            for (; printed < done.size() && done[printed]; printed++) {
                const bool continues = !prompts[printed / arguments_.num_samples].empty();
                print((printed ? "---\n" : "") + text_of(printed) +
                      tokenizer_.decode(done[printed]->tokens, continues) + "\n");
            }
        };
        report(generate(*engine_, arguments_.sampling, requests, arguments_.generation, on_token, on_done), done);
    }

private:
    std::vector<int> encode(const std::string& prompt) const {
        EncodeCounts counts;
        const std::vector<int> ids = encode_prompt(
            tokenizer_, prompt, {.allow_special = arguments_.special.on(), .allowed = &allowed_, .counts = &counts},
            engine_->config().max_T);
        const std::string note = note_of(counts, tokenizer_, arguments_.special.on());
        if (!note.empty()) std::cerr << note << "\n";
        if (!ids.empty()) return ids;
        KILN_CHECK(end_of_text_, "the prompt is empty, and the tokenizer of ", directory_,
                   " has no end-of-text token to start from; give a prompt");
        return {*end_of_text_};
    }

    // `text` has no half character that later text could complete.
    void print(const std::string& text) const {
        std::cout << (arguments_.raw ? text : replace_invalid_utf8(text)) << std::flush;
    }

    void report(const GenerateStats& stats, const std::vector<std::optional<Generated>>& results) const {
        size_t full = 0;
        for (const auto& result : results) full += result && result->finish == Finish::context;
        if (full > 0) {
            std::cerr << "note: the model's context of " << engine_->config().max_T << " tokens was full, which ended "
                      << full << " of " << results.size() << " samples\n";
        }
        // The prefill of a prompt gives the first token of its sample, decoding gives the others.
        const int64_t decoded = stats.new_tokens - int64_t(results.size());
        std::cerr << "prompt: " << stats.prompt_tokens << " tokens in " << formatted("%.1f", stats.prefill_s * 1e3)
                  << " ms; generated: " << stats.new_tokens << " tokens";
        if (decoded > 0 && stats.decode_s > 0) {
            std::cerr << formatted(", %.1f tokens/s", double(decoded) / stats.decode_s);
        }
        std::cerr << "\n";
    }

    Arguments arguments_;
    std::string directory_;
    std::unique_ptr<Engine> engine_;
    Tokenizer tokenizer_;
    const std::vector<bool> allowed_;
    std::optional<int> end_of_text_;
    std::map<std::vector<int>, uint64_t> samples_;  // the number of samples that each prompt has already
};

// A bad line is reported, and the next line is read.
void converse(Session& session) {
    const bool terminal = isatty(STDIN_FILENO);
    LineReader input(InputFile::standard_input());
    std::string line;
    while (true) {
        if (terminal) std::cerr << "> " << std::flush;
        if (!input.next(line)) break;
        if (line.ends_with('\n')) line.pop_back();
        if (line.ends_with('\r')) line.pop_back();
        try {
            check_prompt(line, "the prompt");
            session.run({line}, false);
        } catch (const Error& error) {
            if (!std::cout) throw;
            std::cerr << "kiln: " << error.what() << "\n";
        }
    }
    if (terminal) std::cerr << "\n";
}

}  // namespace

int command_generate(const std::vector<std::string>& args) {
    Arguments arguments;
    if (!parse(args, arguments)) return 0;
    set_threads(arguments.threads);
    const Precision precision = choose_precision(arguments.dtype);
    const std::vector<std::string> prompts = prompts_of(arguments);  // before the model, which takes longer
    Session session(arguments, precision);
    if (arguments.interactive) {
        converse(session);
    } else {
        session.run(prompts, arguments.echo);
    }
    return 0;
}

}  // namespace kiln
