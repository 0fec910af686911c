// kiln tokenizer train
#include <algorithm>
#include <filesystem>
#include <iostream>

#include "cpu_reference/error.h"
#include "tokenizer/bpe_trainer.h"
#include "tokenizer/character_trainer.h"
#include "tokenizer/tokenizer.h"
#include "tools/commands.h"
#include "tools/options.h"
#include "tools/progress_line.h"
#include "tools/stop_signal.h"

namespace kiln {
namespace {

struct TrainArguments {
    std::vector<std::string> inputs, special_tokens = {"<|endoftext|>"};
    std::string output, type = "bpe", pre_tokenizer = "gpt2", normalizer = "none";
    int vocab_size = 0;
    int64_t min_frequency = 0;
    bool add_prefix_space = false;
    int threads = 0;
};

// Shows how far training has come, and ends it after Ctrl-C.
class Progress {
public:
    explicit Progress(const std::vector<std::string>& inputs) {
        for (const std::string& input : inputs) {
            std::error_code failed;  // the trainer says it better
            if (const auto size = std::filesystem::file_size(input, failed); !failed) bytes_ += size;
        }
        catch_stop_signals();
    }
    void show(const BpeProgress& p) {
        KILN_CHECK(stop_signal() == 0, "stopped by ", signal_name(stop_signal()), "; no tokenizer was written");
        if (p.phase == BpeProgress::Phase::kCounting) {
            line_.show("counting words", double(p.done) * 1e-6, double(bytes_) * 1e-6, "MB");
        } else {
            line_.show("merging", double(p.done), double(p.total), "merges");
        }
    }

private:
    ProgressLine line_;
    uint64_t bytes_ = 0;
};

template <class Trainer>
Tokenizer train_on(Trainer trainer, const TrainArguments& a) {
    for (const std::string& input : a.inputs) trainer.add_file(input);
    return trainer.train();
}

Tokenizer train_bpe(const TrainArguments& a) {
    if (a.vocab_size == 0) throw UsageError("kiln tokenizer train: --vocab-size is required; 32000 is a common choice");
    Progress progress(a.inputs);
    return train_on(BpeTrainer({.vocab_size = a.vocab_size,
                                .min_frequency = a.min_frequency,
                                .special_tokens = split_at_commas(a.special_tokens),
                                .normalizer = parse_normalizer(a.normalizer),
                                .splitter = Splitter::parse(a.pre_tokenizer, "--pre-tokenizer"),
                                .add_prefix_space = a.add_prefix_space,
                                .threads = a.threads,
                                .progress = [&](const BpeProgress& p) { progress.show(p); }}),
                    a);
}

Tokenizer train_characters(const TrainArguments& a) {
    if (a.pre_tokenizer != "gpt2" || a.add_prefix_space) {
        throw UsageError("--pre-tokenizer and --add-prefix-space are for --type bpe; characters stand alone");
    }
    return train_on(CharacterTrainer({.vocab_size = a.vocab_size,
                                      .min_frequency = a.min_frequency,
                                      .special_tokens = split_at_commas(a.special_tokens),
                                      .normalizer = parse_normalizer(a.normalizer)}),
                    a);
}

}  // namespace

int train_tokenizer(const std::vector<std::string>& args) {
    TrainArguments a;
    OptionSet set("kiln tokenizer train", "A vocabulary from text; of BPE the same as Hugging Face's trainer makes");
    set.add(a.inputs, {.name = "input", .unit = "FILE", .help = "text files, UTF-8", .required = true});
    set.add(a.vocab_size, {.name = "vocab-size",
                           .unit = "TOKENS",
                           .help = "with special tokens and, for bpe, the 256 bytes; char: 0 is every character",
                           .min = 0,
                           .max = 1 << 24});
    set.add(a.output, {.name = "output", .unit = "DIR", .help = "where tokenizer.json goes", .required = true});
    set.add(a.type, {.name = "type",
                     .help = "kind of vocabulary: byte-level BPE, or a token a character",
                     .choices = {"bpe", "char"}});
    set.add(a.pre_tokenizer, {.name = "pre-tokenizer",
                              .unit = "NAME",
                              .help = concat("what cuts text into words before merging: ", kSplitterNames,
                                             ", or a regular expression")});
    set.add(a.normalizer,
            {.name = "normalizer", .help = "Unicode normal form of the text", .choices = {"none", "nfc", "nfkc"}});
    set.add(a.special_tokens, {.name = "special-tokens",
                               .unit = "A,B",
                               .help = "get the first ids; the first that ends a document separates documents"});
    set.add(a.min_frequency, {.name = "min-frequency",
                              .unit = "COUNT",
                              .help = "a pair seen less often is not merged, a character left out",
                              .min = 0});
    set.add(a.add_prefix_space, {.name = "add-prefix-space", .help = "a text that starts without a space gets one"});
    set.add(a.threads,
            {.name = "threads", .unit = "N", .help = "that count words; 0: all processors", .min = 0, .max = 1024});
    if (!set.parse(args)) return 0;

    // Before the work: a directory that cannot be made should not cost it.
    std::error_code failed;
    const bool made = std::filesystem::create_directories(a.output, failed);
    KILN_CHECK(!failed, "--output ", a.output, ": cannot create the directory: ", failed.message());
    const Tokenizer tokenizer = [&] {
        try {
            return a.type == "char" ? train_characters(a) : train_bpe(a);
        } catch (...) {
            if (made) std::filesystem::remove(a.output, failed);  // it is empty
            throw;
        }
    }();
    tokenizer.save(a.output);  // a signal waits until all files are there
    std::cerr << "wrote a vocabulary of " << tokenizer.vocab_size() << " tokens to " << a.output << "\n";
    if (tokenizer.vocab_size() < a.vocab_size) {
        std::cerr << "that is less than --vocab-size " << a.vocab_size << ": the text has no more "
                  << (a.type == "char" ? "characters" : "pairs to merge") << "; give it more text\n";
    }
    return 0;
}

}  // namespace kiln
