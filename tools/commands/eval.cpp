// kiln eval: loss, perplexity and bits per byte of a model on shards.
#include <algorithm>
#include <cmath>
#include <iostream>
#include <optional>

#include "cpu_reference/interface/error.h"
#include "tokenizer/data/dataloader.h"
#include "tokenizer/data/shard.h"
#include "tokenizer/data/shard_index.h"
#include "tokenizer/data/shard_tokenizer.h"
#include "tokenizer/io/file.h"
#include "tokenizer/tokenizer.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/checkpoint/model_directory.h"
#include "tools/cli/options.h"
#include "tools/cli/threads.h"
#include "tools/commands/commands.h"
#include "tools/evaluate/loss.h"

namespace kiln {
namespace {

struct Arguments {
    std::string model, data, split = "auto", dtype = "auto";
    int B = 8, T = 0, threads = 0;
    int64_t max_batches = 0;
    bool force = false;
};

bool parse(const std::vector<std::string>& args, Arguments& a) {
    OptionSet set(
        "kiln eval",
        "Computes the loss (nats per token), perplexity and bits per byte of a model on shards. Every token except "
        "the first one of each shard is predicted once. Each sequence starts without context.",
        {"--model runs/mine --data shards", "--model runs/mine/best --data shards --split train --max-batches 100",
         "--model models/gpt2 --data 'shards/val_*.bin' --batch-size 4 --sequence-length 1024"});
    add_model_option(set, a.model);
    set.add(a.data,
            {.name = "data", .unit = "SHARDS", .help = "the shards: a directory, a glob or a file", .required = true});
    set.add(a.split, {.name = "split",
                      .help = "which shards of a directory to use; auto: val if there are any, else train",
                      .choices = {"auto", "train", "val", "test"}});
    set.add(a.B, {.name = "batch-size",
                  .short_name = "b",
                  .unit = "SEQUENCES",
                  .help = "sequences in a batch",
                  .min = 1,
                  .max = 65536});
    set.add(a.T, {.name = "sequence-length",
                  .short_name = "t",
                  .unit = "TOKENS",
                  .help = "tokens in a sequence; 0: the context of the model, at most 1024",
                  .min = 0});
    set.add(a.max_batches,
            {.name = "max-batches", .unit = "N", .help = "stop after N batches; 0: use all of the data", .min = 0});
    set.add(a.force, {.name = "force", .help = "evaluate data that was made with another tokenizer than the model's"});
    add_machine_options(set, a.dtype, a.threads);
    return set.parse(args);
}

// Cuts shards into sequences of T tokens, so that every token is a target once. The last sequence of a shard may be
// shorter; the rest of its row is ignored.
class Sequences {
public:
    Sequences(const std::vector<std::filesystem::path>& paths, int B, int T, int V) : B_(B), T_(T), V_(V) {
        for (const std::filesystem::path& path : paths) {
            const Shard& shard = shards_.emplace_back(path);
            KILN_CHECK(shard.info().vocab_size <= V, path.string(), ": its tokens have a vocabulary of ",
                       shard.info().vocab_size, ", but the model has ", V,
                       "; prepare the data with the model's tokenizer");
            shard.verify();
        }
        tokens_.resize(size_t(B) * T), targets_.resize(tokens_.size()), row_.resize(size_t(T) + 1);
    }

    std::optional<Batch> next() {
        std::fill(tokens_.begin(), tokens_.end(), 0);
        std::fill(targets_.begin(), targets_.end(), -1);
        int b = 0;
        for (; b < B_ && find(); b++) {
            const Shard& shard = shards_[shard_];
            const size_t n = std::min<uint64_t>(T_, shard.info().num_tokens - 1 - first_);
            shard.copy(first_, n + 1, row_.data());
            for (size_t i = 0; i <= n; i++) {
                KILN_CHECK(row_[i] >= 0 && row_[i] < V_, shard.path().string(), ": token ", first_ + i, " is ", row_[i],
                           ", but the model's vocabulary has ", V_, "; prepare the data with the model's tokenizer");
            }
            std::copy_n(row_.begin(), n, tokens_.begin() + size_t(b) * T_);
            std::copy_n(row_.begin() + 1, n, targets_.begin() + size_t(b) * T_);
            first_ += n;
        }
        if (b == 0) return std::nullopt;
        return Batch{tokens_.data(), targets_.data()};
    }

    bool at_end() { return !find(); }

    // The first token of each shard, which is no target.
    std::vector<int> first_tokens() const {
        std::vector<int> tokens;
        for (const Shard& shard : shards_) {
            if (shard.info().num_tokens > 0) shard.copy(0, 1, &tokens.emplace_back());
        }
        return tokens;
    }

private:
    // Moves to a shard that has a target left.
    bool find() {
        while (shard_ < shards_.size() && first_ + 1 >= shards_[shard_].info().num_tokens) shard_++, first_ = 0;
        return shard_ < shards_.size();
    }

    int B_, T_, V_;
    std::vector<Shard> shards_;
    std::vector<int> tokens_, targets_, row_;
    size_t shard_ = 0;
    uint64_t first_ = 0;
};

// With another vocabulary of the same size the results mean nothing.
void check_tokenizer(const std::vector<std::filesystem::path>& shards, const std::string& model_directory, bool force) {
    if (find_tokenizer(model_directory).empty()) return;
    const std::string other = other_tokenizer(shards, model_directory);
    KILN_CHECK(other.empty() || force, other, "; make the shards again with `kiln prepare --tokenizer ",
               model_directory, "`, or evaluate anyway with --force, although the loss means nothing");
    if (!other.empty()) std::cerr << "warning: " << other << "\n";
}

// The size of the text whose tokens are targets, or why it is not known.
struct TextBytes {
    uint64_t bytes = 0;
    std::string unknown;
};

TextBytes text_bytes(const std::string& data, const std::string& split, std::vector<int> no_targets) {
    if (!std::filesystem::is_directory(status_of(data)) || !has_shard_index(data)) {
        return {0, "bytes of text are only known for a directory with shards.json"};
    }
    const ShardIndex index = read_shard_index(data);
    uint64_t bytes = (split == "val" ? index.val : split == "test" ? index.test : index.train).text_bytes;
    std::erase(no_targets, index.end_of_text);  // which begins a document, and is none of its text
    if (!no_targets.empty() && find_tokenizer(data).empty()) {
        return {0, "the bytes of each shard's first token are only known with the tokenizer"};
    }
    if (!no_targets.empty()) {
        const Tokenizer tokenizer = Tokenizer::load(data);
        for (const int id : no_targets) bytes -= std::min<uint64_t>(bytes, tokenizer.token_bytes(id).size());
    }
    return {bytes, bytes ? "" : "shards.json says 0 bytes of text"};
}

}  // namespace

int command_eval(const std::vector<std::string>& args) {
    Arguments a;
    if (!parse(args, a)) return 0;
    set_threads(a.threads);
    const Precision precision = choose_precision(a.dtype);
    const DataPaths paths = find_data(a.data);
    if (a.split == "auto") a.split = paths.val.empty() ? "train" : "val";
    const auto& shards = a.split == "val" ? paths.val : a.split == "test" ? paths.test : paths.train;
    KILN_CHECK(!shards.empty(), a.data, ": has no shards of the split ", a.split);

    const std::string directory = find_model(a.model);
    const ModelConfig config = read_model_config(directory);
    const int T = a.T ? a.T : std::min(1024, config.max_T);
    if (T > config.max_T) {
        throw UsageError(concat("--sequence-length is ", T, "; the model's context is ", config.max_T, " tokens"));
    }
    Sequences sequences(shards, a.B, T, config.V);
    KILN_CHECK(!sequences.at_end(), a.data, ": no shard has two tokens, so there is nothing to predict");
    check_tokenizer(shards, directory, a.force);
    const std::unique_ptr<Engine> engine =
        open_engine(directory, {.B = a.B, .T = T, .training = false, .precision = precision});

    const LossSum total =
        *evaluate(*engine, *make_single_communicator(), a.max_batches, nullptr, [&] { return sequences.next(); });
    const double loss = total.sum / double(total.tokens);
    TextBytes text = text_bytes(a.data, a.split, sequences.first_tokens());
    if (text.unknown.empty() && !sequences.at_end()) text.unknown = "--max-batches left out a part of the text";
    std::cout << formatted("split %s\ntokens %lld\nloss %.6f\nperplexity %.4f\nbits_per_byte ", a.split.c_str(),
                           static_cast<long long>(total.tokens), loss, std::exp(loss))
              << (text.unknown.empty() ? formatted("%.6f\n", total.sum / std::log(2.0) / double(text.bytes))
                                       : concat("n/a (", text.unknown, ")\n"));
    return 0;
}

}  // namespace kiln
