#include "tokenizer/bpe/trainer.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <unordered_set>

#include "cpu_reference/interface/error.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe/merge_learner.h"
#include "tokenizer/huggingface/byte_level.h"
#include "tokenizer/huggingface/parts.h"
#include "tokenizer/io/line_reader.h"
#include "tokenizer/io/threads.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {
namespace {

constexpr size_t kChunkBytes = size_t(1) << 20;
constexpr size_t kMergesAReport = 64;

}  // namespace

BpeTrainer::BpeTrainer(BpeTrainerOptions options)
    : options_(std::move(options)),
      normalizer_(options_.normalizer),
      pre_tokenizer_(PreTokenizerSequence::byte_level(options_.pre_tokenizer, options_.add_prefix_space)) {
    const size_t least = options_.special_tokens.size() + 256;
    if (options_.vocab_size < 0 || static_cast<size_t>(options_.vocab_size) < least) {
        throw UsageError(concat("a vocabulary of ", options_.vocab_size, " tokens is too small: ",
                                options_.special_tokens.size(), " special tokens and 256 bytes need ", least));
    }
    check_special_tokens(options_.special_tokens);
}

void BpeTrainer::add_text(std::string_view text, const std::string& name) {
    count(text.size(), name, [rest = text](std::string&) mutable {
        const size_t newline = rest.find('\n', std::min(kChunkBytes, rest.size()));
        const std::string_view lines = rest.substr(0, newline == rest.npos ? rest.size() : newline + 1);
        rest.remove_prefix(lines.size());
        return lines;
    });
}

void BpeTrainer::add_file(const std::filesystem::path& path) {
    InputFile file(path);
    const uint64_t bytes = file.size();
    LineReader reader(std::move(file));
    count(bytes, path.string(), [&](std::string& storage) -> std::string_view {
        return reader.next(storage, kChunkBytes) ? storage : std::string_view();
    });
}

void BpeTrainer::count(uint64_t bytes, const std::string& name, const NextLines& next) {
    struct Chunk {
        std::string storage;
        std::string_view lines;
        uint64_t start = 0;  // in the text
    };
    std::mutex mutex;
    uint64_t taken = 0;                                                      // where the next chunk starts
    std::optional<std::pair<uint64_t, std::string>> invalid = std::nullopt;  // start and text of the first bad chunk
    std::atomic<bool> stop = false;
    std::atomic<uint64_t> done = bytes_;
    const uint64_t total = bytes_ += bytes;

    // Chunks end at line ends. Threads take them in order, so all chunks before a bad one are checked too, and any
    // number of threads reports the same error.
    const auto next_chunk = [&](Chunk& chunk) {
        const std::lock_guard lock(mutex);
        if (stop) return false;
        chunk.lines = next(chunk.storage);
        chunk.start = taken;
        taken += chunk.lines.size();
        return !chunk.lines.empty();
    };
    const auto count_chunks = [&](int thread, WordCounts& words) {
        for (Chunk chunk; next_chunk(chunk);) {
            if (find_invalid_utf8(chunk.lines)) {
                const std::lock_guard lock(mutex);
                if (!invalid || chunk.start < invalid->first) invalid.emplace(chunk.start, chunk.lines);
                stop = true;
                return;
            }
            count_lines(chunk.lines, words);
            done += chunk.lines.size();
            if (thread == 0 && options_.progress) options_.progress({BpeProgress::Phase::kCounting, done, total});
        }
    };

    const int threads = static_cast<int>(std::min<uint64_t>(threads_or_all(options_.threads), bytes / kChunkBytes + 1));
    std::vector<WordCounts> others(threads - 1);
    on_threads(threads, [&](int thread) {
        try {
            count_chunks(thread, thread == 0 ? words_ : others[thread - 1]);
        } catch (...) {
            stop = true;
            throw;
        }
    });
    if (invalid) check_utf8(invalid->second, name, invalid->first);
    words_.take(others);
}

void BpeTrainer::count_lines(std::string_view text, WordCounts& words) const {
    std::string normal_form, with_space;
    for (size_t start = 0; start < text.size();) {
        const size_t newline = text.find('\n', start);
        const size_t end = newline == std::string_view::npos ? text.size() : newline + 1;
        const std::string_view line = normalizer_.normalize(text.substr(start, end - start), normal_form);
        pre_tokenizer_.split(line, false, with_space, [&](std::string_view word, size_t, bool) { words.add(word); });
        start = end;
    }
}

Tokenizer BpeTrainer::train() const {
    KILN_CHECK(words_.size() > 0, "there is no text to train a tokenizer on: every input is empty");
    TokenizerParts parts = TokenizerParts::byte_level(options_.normalizer, pre_tokenizer_);
    std::vector<std::string>& tokens = parts.vocabulary.tokens;
    const ByteLevel byte_level;

    std::unordered_set<std::string> special_spellings;
    for (const std::string& token : options_.special_tokens) {
        parts.added.push_back({.id = static_cast<int>(tokens.size()), .content = token, .special = true});
        tokens.push_back(token);
        special_spellings.insert(token);
    }
    std::array<int, 256> byte_ids;
    for (const unsigned char byte : byte_level.alphabet()) {
        byte_ids[byte] = static_cast<int>(tokens.size());
        tokens.emplace_back(1, static_cast<char>(byte));
    }

    const size_t vocab_size = static_cast<size_t>(options_.vocab_size);
    MergeLearner learner(words_, byte_ids, options_.min_frequency, vocab_size - std::min(vocab_size, tokens.size()));
    const size_t first = tokens.size();
    while (tokens.size() < vocab_size) {
        const size_t merges = tokens.size() - first;
        if (options_.progress && merges % kMergesAReport == 0) {
            options_.progress({BpeProgress::Phase::kMerging, merges, vocab_size - first});
        }
        const auto best = learner.next();
        if (!best) break;
        std::string merged = tokens[best->left] + tokens[best->right];
        // Hugging Face gives such a word the special token's id, so that plain text can spell a special token.
        KILN_CHECK(!special_spellings.contains(byte_level.spell(merged)), "the special token \"", merged,
                   "\" is a word of the training text; choose one that text does not contain, such as ",
                   other_special_token(merged));
        learner.merge(static_cast<uint32_t>(tokens.size()));
        parts.vocabulary.merges.emplace_back(best->left, best->right);
        tokens.push_back(std::move(merged));
    }
    parts.is_text.assign(tokens.size(), true);
    for (const AddedToken& token : parts.added) parts.is_text[token.id] = false;
    return make_tokenizer(std::move(parts), "the trained tokenizer");
}

}  // namespace kiln
