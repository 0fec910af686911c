#include "tools/cli/synonyms.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "cpu_reference/interface/text.h"

namespace kiln {

namespace {

// The words of Hugging Face's, nanoGPT's, llm.c's, llama.cpp's and vLLM's programs, and the options that mean the same,
// separated by spaces: the first one that a program has is meant.
constexpr std::pair<std::string_view, std::string_view> kOptions[] = {
    {"accumulation-steps", "total-batch-size"},
    {"batch", "batch-size"},
    {"block-size", "sequence-length"},
    {"checkpoint", "model resume"},
    {"checkpoint-dir", "model output"},
    {"checkpoint-interval", "checkpoint-every"},
    {"ckpt", "model resume"},
    {"ckpt-path", "model resume"},
    {"context-length", "sequence-length"},
    {"ctx-size", "sequence-length"},
    {"data-dir", "data input"},
    {"data-path", "data input"},
    {"dataset", "data input"},
    {"dataset-path", "data input"},
    {"eval-interval", "val-every"},
    {"eval-iters", "val-max-batches max-batches"},
    {"eval-steps", "val-every"},
    {"file", "input path"},
    {"files", "input path"},
    {"force", "overwrite"},
    {"fp16", "dtype"},
    {"bf16", "dtype"},
    {"gradient-accumulation-steps", "total-batch-size"},
    {"gradient-checkpointing", "recompute"},
    {"init-from", "model"},
    {"input-file", "input"},
    {"iterations", "max-steps"},
    {"iters", "max-steps"},
    {"load", "model resume"},
    {"logging-steps", "log-every"},
    {"lr", "learning-rate"},
    {"lr-scheduler-type", "schedule"},
    {"max-grad-norm", "grad-clip"},
    {"max-iters", "max-steps"},
    {"max-len", "max-new-tokens sequence-length"},
    {"max-length", "max-new-tokens sequence-length"},
    {"max-seq-len", "sequence-length max-new-tokens"},
    {"max-seq-length", "sequence-length max-new-tokens"},
    {"max-tokens", "max-new-tokens shard-tokens"},
    {"mixed-precision", "dtype"},
    {"model-dir", "model"},
    {"model-name", "model"},
    {"model-name-or-path", "model"},
    {"model-path", "model"},
    {"n-predict", "max-new-tokens"},
    {"n-samples", "num-samples"},
    {"num-epochs", "epochs"},
    {"num-iters", "max-steps"},
    {"num-return-sequences", "num-samples"},
    {"num-steps", "max-steps"},
    {"num-tokens", "max-new-tokens"},
    {"num-train-epochs", "epochs"},
    {"num-workers", "threads"},
    {"out", "output"},
    {"out-dir", "output"},
    {"output-dir", "output"},
    {"per-device-train-batch-size", "batch-size"},
    {"precision", "dtype"},
    {"resume-from", "resume"},
    {"resume-from-checkpoint", "resume"},
    {"run-dir", "output run"},
    {"save-dir", "output"},
    {"save-every", "checkpoint-every"},
    {"save-interval", "checkpoint-every"},
    {"save-steps", "checkpoint-every"},
    {"save-total-limit", "checkpoints-keep"},
    {"scheduler", "schedule"},
    {"seq-len", "sequence-length"},
    {"seq-length", "sequence-length"},
    {"steps", "max-steps"},
    {"stream", "interactive"},
    {"temp", "temperature"},
    {"text", "prompt input"},
    {"text-column", "text-key"},
    {"text-field", "text-key"},
    {"tokenizer-path", "tokenizer"},
    {"topk", "top-k"},
    {"topp", "top-p"},
    {"train-data", "input"},
    {"train-file", "input"},
    {"val-data", "val-input"},
    {"val-file", "val-input"},
    {"val-split", "val-fraction"},
    {"validation-split", "val-fraction"},
    {"vocab", "vocab-size"},
    {"vocabulary-size", "vocab-size"},
    {"warmup", "warmup-steps"},
    {"warmup-iters", "warmup-steps"},
    {"wd", "weight-decay"},
    {"workers", "threads"},
};

constexpr const char* kTrainer = "train_gpt2 (train_gpt2cu on a GPU), which trains models, or 'tokenizer train'";
constexpr std::pair<std::string_view, std::string_view> kCommands[] = {
    {"train", kTrainer},
    {"pretrain", kTrainer},
    {"finetune", kTrainer},
    {"fine-tune", kTrainer},
    {"fit", kTrainer},
    {"chat", "'generate --interactive'"},
    {"talk", "'generate --interactive'"},
    {"repl", "'generate --interactive'"},
    {"serve", "'generate --interactive' (there is no server)"},
    {"server", "'generate --interactive' (there is no server)"},
    {"v", "'--version'"},
    {"run", "'generate'"},
    {"sample", "'generate'"},
    {"infer", "'generate'"},
    {"inference", "'generate'"},
    {"complete", "'generate'"},
    {"predict", "'generate'"},
    {"test", "'eval'"},
    {"evaluate", "'eval'"},
    {"perplexity", "'eval'"},
    {"ppl", "'eval'"},
    {"loss", "'eval', or 'plot' for the curve of a run"},
    {"validate", "'eval'"},
    {"preprocess", "'prepare'"},
    {"process", "'prepare'"},
    {"shard", "'prepare'"},
    {"data", "'prepare'"},
    {"dataset", "'prepare'"},
    {"tokenize", "'prepare' for files, or 'tokenizer encode'"},
    {"encode", "'tokenizer encode'"},
    {"decode", "'tokenizer decode'"},
    {"detokenize", "'tokenizer decode'"},
    {"download", "'tokenizer import'"},
    {"info", "'inspect'"},
    {"show", "'inspect'"},
    {"list", "'inspect'"},
    {"stats", "'inspect'"},
    {"graph", "'plot'"},
    {"curve", "'plot'"},
    {"draw", "'plot'"},
    {"convert", "'import' or 'export' (checkpoints are Hugging Face models already), or 'tokenizer import'"},
};

template <size_t N>
std::string_view find(const std::pair<std::string_view, std::string_view> (&table)[N], std::string_view word) {
    const auto row = std::ranges::find(table, word, &std::pair<std::string_view, std::string_view>::first);
    return row == std::end(table) ? "" : row->second;
}

// Lower case, with dashes for underscores, without the dashes in front.
std::string plain(std::string_view word) {
    std::string text(word.substr(std::min(word.find_first_not_of('-'), word.size())));
    for (char& c : text) c = c == '_' ? '-' : char(std::tolower(static_cast<unsigned char>(c)));
    return text;
}

}  // namespace

std::string meant_option(std::string_view unknown, const std::vector<std::string>& names) {
    std::string_view rest = find(kOptions, plain(unknown));
    while (!rest.empty()) {
        const size_t end = std::min(rest.find(' '), rest.size());
        const std::string option = "--" + std::string(rest.substr(0, end));
        if (std::ranges::find(names, option) != names.end()) return option;
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    return nearest(unknown, names);
}

std::string meant_command(std::string_view unknown, const std::vector<std::string>& names) {
    const std::string_view meant = find(kCommands, plain(unknown));
    return meant.empty() ? "'" + nearest(unknown, names) + "'" : std::string(meant);
}

}  // namespace kiln
