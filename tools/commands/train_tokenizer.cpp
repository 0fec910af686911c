// kiln tokenizer train
#include <filesystem>
#include <iostream>

#include "cpu_reference/interface/error.h"
#include "tokenizer/bpe/trainer.h"
#include "tokenizer/huggingface/characters.h"
#include "tokenizer/prepare/documents.h"
#include "tokenizer/sentencepiece/trainer.h"
#include "tokenizer/tokenizer.h"
#include "tools/cli/options.h"
#include "tools/cli/progress_line.h"
#include "tools/cli/stop_signal.h"
#include "tools/commands/commands.h"

namespace kiln {
namespace {

struct TrainArguments {
    std::vector<std::string> inputs, special_tokens;
    std::string output, type = "bpe", pre_tokenizer = "gpt2", normalizer = "none";
    int vocab_size = 0;
    int64_t min_frequency = 0;
    double character_coverage = SentencePieceTrainerOptions().character_coverage;
    bool add_prefix_space = false, byte_fallback = false;
    int threads = 0;
};

// Shows the progress of training, and ends it after Ctrl-C.
class Progress {
public:
    explicit Progress(const std::vector<std::string>& inputs) {
        for (const std::string& input : inputs) {
            std::error_code failed;  // the trainer reports the error
            if (const auto size = std::filesystem::file_size(input, failed); !failed) bytes_ += size;
        }
        catch_stop_signals();
    }
    void show(const BpeProgress& p) {
        stop_if_asked();
        if (p.phase == BpeProgress::Phase::kCounting) {
            line_.show("counting words", double(p.done) * 1e-6, double(bytes_) * 1e-6, "MB");
        } else {
            line_.show("merging", double(p.done), double(p.total), "merges");
        }
    }

    void show_sentencepiece() {
        stop_if_asked();
        line_.show("training with the SentencePiece library");
    }

private:
    static void stop_if_asked() {
        KILN_CHECK(stop_signal() == 0, "stopped by ", signal_name(stop_signal()), "; no tokenizer was written");
    }

    ProgressLine line_;
    uint64_t bytes_ = 0;
};

// Throws Error if the name of an input says that it is not a file of plain text.
void check_inputs(const std::vector<std::string>& inputs) {
    for (const std::string& input : inputs) {
        std::error_code failed;  // the trainer reports the error
        KILN_CHECK(!std::filesystem::is_directory(input, failed), "--input ", input,
                   ": is a directory, but text files are needed, for example --input ", input, "/*.txt");
        KILN_CHECK(input.find_first_of("*?") == input.npos || std::filesystem::exists(input, failed), "--input ", input,
                   ": there is no such file; the shell expands patterns, so write it without quotes");
        KILN_CHECK(
            format_of(input) == DocumentFormat::text, "--input ", input,
            ": its name says it has records, but plain text is needed: the tokenizer would also learn the names of "
            "fields, quotes and escapes. Write the field with the text to a .txt file first");
        KILN_CHECK(!input.ends_with(".gz") && !input.ends_with(".zst"), "--input ", input,
                   ": is compressed; decompress it first (`gzip -dk`, `zstd -dk`)");
    }
}

template <class Trainer>
Tokenizer train_on(Trainer trainer, const TrainArguments& a) {
    for (const std::string& input : a.inputs) trainer.add_file(input);
    return trainer.train();
}

// The type after "sentencepiece-"; empty for other types.
std::string sentencepiece_type(const TrainArguments& a) {
    constexpr std::string_view kPrefix = "sentencepiece-";
    return a.type.starts_with(kPrefix) ? a.type.substr(kPrefix.size()) : "";
}

bool is_of_characters(const TrainArguments& a) {
    return a.type == "char" || sentencepiece_type(a) == "char";
}

Tokenizer train_bpe(const TrainArguments& a) {
    Progress progress(a.inputs);
    return train_on(BpeTrainer({.vocab_size = a.vocab_size,
                                .min_frequency = a.min_frequency,
                                .special_tokens = split_at_commas(a.special_tokens),
                                .normalizer = parse_normalizer(a.normalizer),
                                .pre_tokenizer = PreTokenizer::parse(a.pre_tokenizer, "--pre-tokenizer"),
                                .add_prefix_space = a.add_prefix_space,
                                .threads = a.threads,
                                .progress = [&](const BpeProgress& p) { progress.show(p); }}),
                    a);
}

Tokenizer train_characters(const TrainArguments& a) {
    return train_on(CharacterTrainer({.vocab_size = a.vocab_size,
                                      .min_frequency = a.min_frequency,
                                      .special_tokens = split_at_commas(a.special_tokens),
                                      .normalizer = parse_normalizer(a.normalizer)}),
                    a);
}

Tokenizer train_sentencepiece(const TrainArguments& a) {
    using Kind = SentencePieceModel::Kind;
    const std::string type = sentencepiece_type(a);
    Progress progress(a.inputs);
    SentencePieceTrainerOptions options = {.kind = type == "bpe"       ? Kind::bpe
                                                   : type == "unigram" ? Kind::unigram
                                                                       : Kind::character,
                                           .vocab_size = a.vocab_size,
                                           .normalization = a.normalizer == "none" ? "identity" : a.normalizer,
                                           .character_coverage = a.character_coverage,
                                           .byte_fallback = a.byte_fallback,
                                           .threads = a.threads,
                                           .poll = [&] { progress.show_sentencepiece(); }};
    if (!a.special_tokens.empty()) options.special_tokens = split_at_commas(a.special_tokens);
    return train_sentencepiece_tokenizer(options, {a.inputs.begin(), a.inputs.end()});
}

// Throws UsageError on options that would be ignored.
void check(const TrainArguments& a) {
    const TrainArguments defaults;
    const bool sentencepiece = !sentencepiece_type(a).empty();
    const auto refuse = [&](bool changed, const char* options, const char* types) {
        if (changed) throw UsageError(concat(options, " is for --type ", types, ", not ", a.type));
    };
    refuse(a.type != "bpe" && (a.pre_tokenizer != defaults.pre_tokenizer || a.add_prefix_space),
           "--pre-tokenizer or --add-prefix-space", "bpe");
    refuse(sentencepiece && a.min_frequency != 0, "--min-frequency", "bpe or char");
    refuse(!sentencepiece && (a.byte_fallback || a.character_coverage != defaults.character_coverage),
           "--byte-fallback or --character-coverage", "sentencepiece-...");
    refuse(sentencepiece && a.normalizer == "nfc", "--normalizer nfc", "bpe or char");
    refuse(!sentencepiece && a.normalizer == "nmt_nfkc", "--normalizer nmt_nfkc", "sentencepiece-...");
    if (a.vocab_size == 0 && !is_of_characters(a)) {
        throw UsageError("kiln tokenizer train: --vocab-size is required; 32000 is a common choice");
    }
}

}  // namespace

int train_tokenizer(const std::vector<std::string>& args) {
    TrainArguments a;
    OptionSet set("kiln tokenizer train",
                  "Learns a vocabulary from text. For BPE, it is the same as that of Hugging Face's trainer",
                  {"--input my.txt --vocab-size 4096 --output tok",
                   "--input my.txt --type char --special-tokens '<|endoftext|>,<unk>' --output tok",
                   "--input my.txt --type sentencepiece-bpe --byte-fallback --vocab-size 8000 --output tok"});
    set.add(a.inputs, {.name = "input", .unit = "FILE", .help = "files of plain text in UTF-8", .required = true});
    set.add(a.vocab_size, {.name = "vocab-size",
                           .unit = "TOKENS",
                           .help = "number of tokens, with special tokens and bytes; 0 (only for characters): all",
                           .min = 0,
                           .max = 1 << 24});
    set.add(
        a.output,
        {.name = "output", .unit = "DIR", .help = "directory for tokenizer.json or tokenizer.model", .required = true});
    set.add(a.type, {.name = "type",
                     .help = "byte-level BPE, one token for each character, or a SentencePiece model",
                     .choices = {"bpe", "char", "sentencepiece-bpe", "sentencepiece-unigram", "sentencepiece-char"}});
    set.add(a.pre_tokenizer, {.name = "pre-tokenizer",
                              .unit = "NAME",
                              .help = concat("what cuts text into words before merging: ", pre_tokenizer_names(true))});
    set.add(
        a.normalizer,
        {.name = "normalizer",
         .help =
             "Unicode normal form of the text; nmt_nfkc, SentencePiece's default, also turns line breaks into spaces",
         .choices = {"none", "nfc", "nfkc", "nmt_nfkc"}});
    set.add(a.special_tokens, {.name = "special-tokens",
                               .unit = "A,B",
                               .help = "they get the first ids; spaces around commas are ignored; the one that ends a "
                                       "document separates documents; default: <|endoftext|>, for sentencepiece "
                                       "<unk>,<s>,</s>"});
    set.add(a.min_frequency, {.name = "min-frequency",
                              .unit = "COUNT",
                              .help = "rarer pairs are not merged; rarer characters are left out",
                              .min = 0});
    set.add(a.add_prefix_space,
            {.name = "add-prefix-space", .help = "add a space to a text that does not start with one"});
    set.add(a.threads, {.name = "threads",
                        .unit = "N",
                        .help = "0: all processors; 16 for sentencepiece, so that every machine makes the same model",
                        .min = 0,
                        .max = 128});
    set.section("SentencePiece");
    set.add(a.character_coverage,
            {.name = "character-coverage",
             .unit = "SHARE",
             .help = "part of the text whose characters get pieces; rarer characters get no piece",
             .min = 0.98,
             .max = 1});
    set.add(a.byte_fallback, {.name = "byte-fallback",
                              .help = "characters without a piece become bytes, not <unk>; this needs 256 ids"});
    if (!set.parse(args)) return 0;
    check(a);
    check_inputs(a.inputs);

    // First, so that no work is lost if the directory cannot be created.
    std::error_code failed;
    const bool made = std::filesystem::create_directories(a.output, failed);
    KILN_CHECK(!failed, "--output ", a.output, ": cannot create the directory: ", failed.message());
    const Tokenizer tokenizer = [&] {
        try {
            if (!sentencepiece_type(a).empty()) return train_sentencepiece(a);
            if (a.special_tokens.empty()) a.special_tokens = {"<|endoftext|>"};
            return a.type == "char" ? train_characters(a) : train_bpe(a);
        } catch (...) {
            if (made) std::filesystem::remove(a.output, failed);  // it is empty
            throw;
        }
    }();
    tokenizer.save(a.output);  // a signal waits until all files are written
    std::cerr << "wrote a vocabulary of " << tokenizer.vocab_size() << " tokens to " << a.output << "\n";
    if (tokenizer.vocab_size() < a.vocab_size) {
        std::cerr << "this is less than --vocab-size " << a.vocab_size << ": the text has no more "
                  << (is_of_characters(a) ? "characters" : "pairs to merge") << "; give it more text\n";
    }
    if (a.type == "char" && !tokenizer.token_id("<unk>")) {
        std::cerr << "text with other characters will be refused; "
                     "--special-tokens '<|endoftext|>,<unk>' gives such characters a token\n";
    }
    return 0;
}

}  // namespace kiln
