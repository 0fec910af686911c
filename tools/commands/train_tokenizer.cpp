// kiln tokenizer train
#include <filesystem>
#include <iostream>

#include "cpu_reference/interface/error.h"
#include "tokenizer/bpe/trainer.h"
#include "tokenizer/huggingface/characters.h"
#include "tokenizer/prepare/documents.h"
#include "tokenizer/prepare/training_text.h"
#include "tokenizer/sentencepiece/trainer.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_impl.h"
#include "tokenizer/unicode/utf8.h"
#include "tools/cli/options.h"
#include "tools/cli/progress_line.h"
#include "tools/cli/stop_signal.h"
#include "tools/cli/threads.h"
#include "tools/commands/commands.h"
#include "tools/commands/reading_options.h"

namespace kiln {
namespace {

void report(const std::string& text) {
    std::cerr << replace_invalid_utf8(text) << "\n";  // it may quote a bad record
}

struct TrainArguments {
    std::vector<std::string> inputs, special_tokens;
    std::string output, type = "bpe", pre_tokenizer = "gpt2", normalizer = "none";
    int vocab_size = 0;
    int64_t min_frequency = 0;
    double character_coverage = SentencePieceTrainerOptions().character_coverage;
    bool add_prefix_space = false, byte_fallback = false, overwrite = false;
    int threads = 0;
    DocumentOptions documents;
    InputFiles files;

    void read(TrainingText text) const {
        text.report = report;
        read_training_text(files.files, documents, text);
    }
};

// Shows the progress of training.
class Progress {
public:
    explicit Progress(const std::vector<InputFileInfo>& files) {
        for (const InputFileInfo& file : files) {
            // Records, compressed files and archives hold more or less text than bytes, so no total is shown.
            plain_ = plain_ && format_of(file.path) == DocumentFormat::text &&
                     file.path == decompressed_name(file.path) && !is_archive_name(file.path);
            bytes_ += file.bytes;
        }
    }
    void show(const BpeProgress& p) {
        if (p.phase == BpeProgress::Phase::kCounting) {
            line_.show("counting words", double(p.done) * 1e-6, plain_ ? double(bytes_) * 1e-6 : 0, "MB");
        } else {
            line_.show("merging", double(p.done), double(p.total), "merges");
        }
    }

    void show_sentencepiece() { line_.show("training with the SentencePiece library"); }

private:
    ProgressLine line_;
    uint64_t bytes_ = 0;
    bool plain_ = true;
};

template <class Trainer>
Tokenizer train_on(Trainer trainer, const TrainArguments& a) {
    a.read({.on_file = [&](const std::filesystem::path& file) { trainer.add_file(file); },
            .on_text = [&](std::string_view text, const std::string& name) { trainer.add_text(text, name); }});
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
    Progress progress(a.files.files);
    return train_on(BpeTrainer({.vocab_size = a.vocab_size,
                                .min_frequency = a.min_frequency,
                                .special_tokens = split_at_commas(a.special_tokens),
                                .normalizer = parse_normalizer(a.normalizer),
                                .pre_tokenizer = PreTokenizer::parse(a.pre_tokenizer, "--pre-tokenizer"),
                                .add_prefix_space = a.add_prefix_space,
                                .threads = threads_to_use(a.threads),
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
    Progress progress(a.files.files);
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
    std::vector<std::filesystem::path> files;
    std::vector<std::string> documents;
    a.read({.on_file = [&](const std::filesystem::path& file) { files.push_back(file); },
            .on_text = [&](std::string_view text, const std::string&) { documents.emplace_back(text); }});
    return train_sentencepiece_tokenizer(options, files, documents);
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
    ReadingOptions reading;
    OptionSet set("kiln tokenizer train",
                  "Learns a vocabulary from text. For BPE, it is the same as that of Hugging Face's trainer",
                  {"--input my.txt --vocab-size 4096 --output tok",
                   "--input 'data/**/*.jsonl.zst' --text-key content --vocab-size 32000 --output tok",
                   "--input my.txt --type char --special-tokens '<|endoftext|>,<unk>' --output tok",
                   "--input my.txt --type sentencepiece-bpe --byte-fallback --vocab-size 8000 --output tok"});
    set.add(a.inputs,
            {.name = "input",
             .unit = "PATH",
             .help = "files, directories or quoted patterns, as `kiln prepare` takes them: text, .jsonl, .json, "
                     ".csv, .tsv, also compressed or in .tar archives",
             .required = true});
    add_reading_options(set, reading);
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
    set.add(a.overwrite, overwrite_tokenizer_option());
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
    a.documents = reading.options();
    a.files = find_documents(a.inputs);
    if (a.files.by_names) std::cerr << "files that are named for validation or test are not used for training\n";
    report_passed_over(a.files.passed_over, report);

    // First, so that no work is lost if the tokenizer cannot be written there.
    if (!a.overwrite) check_replaces_nothing(a.output, {});
    std::error_code failed;
    const bool made = std::filesystem::create_directories(a.output, failed);
    KILN_CHECK(!failed, "--output ", a.output, ": cannot create the directory: ", failed.message());
    const auto remove_again = [made, output = a.output] {
        std::error_code ignored;
        if (made) std::filesystem::remove(output, ignored);  // it is empty
    };
    end_at_stop_signals([=](int) { remove_again(); });
    const Tokenizer tokenizer = [&] {
        try {
            if (!sentencepiece_type(a).empty()) return train_sentencepiece(a);
            if (a.special_tokens.empty()) a.special_tokens = {"<|endoftext|>"};
            return a.type == "char" ? train_characters(a) : train_bpe(a);
        } catch (...) {
            remove_again();
            throw;
        }
    }();
    catch_stop_signals();  // a signal waits until all files are written
    tokenizer.save(a.output, a.overwrite);
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
