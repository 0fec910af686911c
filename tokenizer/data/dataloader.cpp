#include "tokenizer/data/dataloader.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>

#include "cpu_reference/interface/error.h"
#include "tokenizer/data/permutation.h"
#include "tokenizer/data/shard.h"

namespace kiln {

namespace {

// All shards as one list of sequences: T tokens and the token after them. A sequence may contain several documents but
// lies in one shard; at most T tokens at the end of each shard are not used.
class Sequences {
public:
    Sequences(const DataLoaderOptions& options) : T_(options.T), vocab_size_(options.vocab_size) {
        KILN_CHECK(!options.shards.empty(), "no shards to read; give a directory of shards, a glob or a file (-i)");
        uint64_t longest = 0;
        for (const auto& path : options.shards) {
            const ShardInfo& info = shards_.emplace_back(path).info();
            check_vocabulary(shards_.back());
            firsts_.push_back(count_);
            count_ += info.num_tokens == 0 ? 0 : (info.num_tokens - 1) / uint64_t(T_);
            tokens_ += info.num_tokens;
            longest = std::max(longest, info.num_tokens);
        }
        KILN_CHECK(count_ > 0, "too little data: a sequence of ", T_, " needs ", T_ + 1, " tokens, ",
                   options.shards.front().string(),
                   options.shards.size() == 1 ? " has " : " and the other shards have at most ", longest,
                   longest > 1 ? concat("; shorten the sequences (-t ", longest - 1, " at most) or give more data")
                               : "; give more data");
    }

    uint64_t count() const { return count_; }
    const std::vector<Shard>& shards() const { return shards_; }
    uint64_t num_tokens() const { return tokens_; }

    uint64_t sample_fingerprint() const {
        constexpr uint64_t kTokens = 4096;
        Xxh3 hash;
        std::vector<int> tokens;
        for (const Shard& shard : shards_) {
            const uint64_t all = shard.info().num_tokens, n = std::min(all, kTokens);
            tokens.resize(n);
            for (const uint64_t first : {uint64_t(0), (all - n) / 2, all - n}) {
                shard.copy(first, n, tokens.data());
                hash.update(tokens.data(), n * sizeof(int));
            }
        }
        return hash.digest();
    }

    uint64_t fingerprint() const {
        std::vector<uint64_t> facts;
        for (const Shard& shard : shards_) {
            facts.push_back(shard.info().num_tokens);
            facts.push_back(shard.info().payload_xxh3);  // 0 in llm.c's own files, which have no checksum
        }
        return xxh3_64(facts.data(), facts.size() * sizeof(uint64_t));
    }

    // Copies sequence `index` into tokens (T) and, shifted by one, into targets (T). `row` (T + 1) is for its own use.
    void copy(uint64_t index, std::vector<int>& row, int* tokens, int* targets) const {
        const auto after = std::upper_bound(firsts_.begin(), firsts_.end(), index);
        const size_t s = size_t(after - firsts_.begin()) - 1;
        const uint64_t first = (index - firsts_[s]) * uint64_t(T_);
        shards_[s].copy(first, row.size(), row.data());
        check_range(shards_[s], first, row);
        std::copy(row.begin(), row.end() - 1, tokens);
        std::copy(row.begin() + 1, row.end(), targets);
    }

private:
    void check_vocabulary(const Shard& shard) const {
        const ShardInfo& info = shard.info();
        if (!info.ours) return;
        KILN_CHECK(vocab_size_ == 0 || info.vocab_size <= vocab_size_, shard.path().string(),
                   ": made with a vocabulary of ", info.vocab_size, ", the model has ", vocab_size_,
                   "; give the model that vocabulary, or prepare the data with the model's tokenizer");
        const Shard& other = shards_.front();
        KILN_CHECK(!other.info().ours || info.tokenizer_sha256 == other.info().tokenizer_sha256, shard.path().string(),
                   ": made with another tokenizer than ", other.path().string(),
                   "; prepare all of the data with one tokenizer");
    }

    void check_range(const Shard& shard, uint64_t first, const std::vector<int>& row) const {
        if (vocab_size_ == 0) return;
        unsigned largest = 0;
        for (const int token : row) largest = std::max(largest, unsigned(token));
        if (largest < unsigned(vocab_size_)) return;
        const auto at = std::ranges::find(row, int(largest)) - row.begin();
        throw Error(concat(shard.path().string(), ": token ", largest, " at position ", first + uint64_t(at),
                           " does not fit the model's vocabulary of ", vocab_size_,
                           "; prepare the data with the model's tokenizer"));
    }

    int T_, vocab_size_;
    std::vector<Shard> shards_;
    std::vector<uint64_t> firsts_;  // number of each shard's first sequence
    uint64_t count_ = 0, tokens_ = 0;
};

struct Batch {
    std::vector<int> tokens, targets;  // (B, T)
};

const DataLoaderOptions& checked(const DataLoaderOptions& o) {
    KILN_CHECK(o.B >= 1 && o.T >= 1, "batches of ", o.B, " sequences of ", o.T, " tokens: both must be at least 1");
    KILN_CHECK(o.world >= 1 && o.rank >= 0 && o.rank < o.world, "rank ", o.rank, " of ", o.world, " does not exist");
    KILN_CHECK(o.prefetch >= 0, "prefetch of ", o.prefetch, " batches: it cannot be negative");
    return o;
}

}  // namespace

// Verifies the checksums of a part of the shards. Much data may take minutes, so a thread reads it during training.
class Verifier {
public:
    Verifier(const std::vector<Shard>& shards, const DataLoaderOptions& options) {
        std::vector<const Shard*> mine;
        uint64_t bytes = 0;
        for (size_t i = size_t(options.verify_part); i < shards.size(); i += size_t(options.verify_parts)) {
            mine.push_back(&shards[i]);
            bytes += shards[i].info().payload_bytes();
        }
        if (bytes <= options.verify_first_bytes) {
            for (const Shard* shard : mine) shard->verify();
            return;
        }
        thread_ = std::jthread([this, mine = std::move(mine)](const std::stop_token& stop) {
            try {
                for (const Shard* shard : mine) shard->verify(stop);
            } catch (...) {
                error_ = std::current_exception();
                failed_.store(true, std::memory_order_release);
            }
        });
    }

    void check() const {  // throws the error of a damaged shard
        if (failed_.load(std::memory_order_acquire)) std::rethrow_exception(error_);
    }

private:
    std::exception_ptr error_;  // written before failed_
    std::atomic<bool> failed_ = false;
    std::jthread thread_;  // last: it uses the members above
};

// With prefetch, one thread fills batches ahead of the caller. A batch is free, being filled, ready, or held by the
// caller; `mutex` guards these states. A seek starts a new generation, and batches of the old one are discarded.
struct DataLoader::Impl {
    explicit Impl(const DataLoaderOptions& o)
        : options(checked(o)), sequences(options), step(uint64_t(o.B) * uint64_t(o.world)) {
        batches.resize(size_t(options.prefetch) + 1);
        for (size_t i = 0; i < batches.size(); i++) {
            batches[i].tokens.resize(size_t(options.B) * size_t(options.T));
            batches[i].targets.resize(size_t(options.B) * size_t(options.T));
            free.push_back(i);
        }
        if (options.prefetch > 0) thread = std::thread([this] { fetch_ahead(); });
    }

    ~Impl() {
        if (!thread.joinable()) return;
        {
            const std::lock_guard lock(mutex);
            stop = true;
        }
        changed.notify_all();
        thread.join();
    }

    // Fills in this rank's rows of the global batch at `first`. Keeps the epoch's permutation and a row: one caller at
    // a time.
    void fill(uint64_t first, Batch& batch) {
        const size_t T = size_t(options.T);
        for (size_t b = 0; b < size_t(options.B); b++) {
            const uint64_t p = first + uint64_t(options.rank) * uint64_t(options.B) + b;
            uint64_t sequence = p % sequences.count();
            if (options.shuffle) {
                const uint64_t its_epoch = p / sequences.count();
                if (!order || epoch != its_epoch) order.emplace(sequences.count(), options.seed, its_epoch);
                epoch = its_epoch;
                sequence = (*order)(sequence);
            }
            sequences.copy(sequence, row, &batch.tokens[b * T], &batch.targets[b * T]);
        }
    }

    void fetch_ahead() {
        std::unique_lock lock(mutex);
        for (;;) {
            changed.wait(lock, [&] { return stop || (!free.empty() && !failed); });
            if (stop) return;
            const size_t slot = free.back();
            free.pop_back();
            const uint64_t first = fetch_position, its_generation = generation;
            fetch_position += step;
            lock.unlock();
            std::exception_ptr error;
            try {
                fill(first, batches[slot]);
            } catch (...) {
                error = std::current_exception();
            }
            lock.lock();
            if (its_generation != generation) {
                free.push_back(slot);
                continue;
            }
            failed = error != nullptr;
            ready.push_back({slot, error});
            changed.notify_all();
        }
    }

    size_t next_slot() {
        if (!thread.joinable()) {
            fill(position, batches[0]);
            return 0;
        }
        std::unique_lock lock(mutex);
        if (held) free.push_back(*held);
        held.reset();
        changed.notify_all();
        changed.wait(lock, [&] { return !ready.empty(); });
        const Ready front = ready.front();
        if (front.error) std::rethrow_exception(front.error);  // it stays in the queue: the next call throws it again
        ready.pop_front();
        held = front.slot;
        return front.slot;
    }

    void seek(uint64_t to) {
        const std::lock_guard lock(mutex);
        position = fetch_position = to;
        generation++;
        for (const Ready& r : ready) free.push_back(r.slot);
        ready.clear();
        failed = false;
        changed.notify_all();
    }

    struct Ready {
        size_t slot;
        std::exception_ptr error;
    };

    const DataLoaderOptions options;
    const Sequences sequences;
    const Verifier verifier{sequences.shards(), options};
    const uint64_t step;    // positions of a global batch
    uint64_t position = 0;  // of the caller

    uint64_t epoch = 0;  // of `order`
    std::optional<Permutation> order;
    std::vector<int> row = std::vector<int>(size_t(options.T) + 1);

    std::vector<Batch> batches;
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<size_t> free;
    std::deque<Ready> ready;
    std::optional<size_t> held;
    uint64_t fetch_position = 0, generation = 0;
    bool failed = false, stop = false;
    std::thread thread;  // last: it uses all members above
};

DataLoader::DataLoader(const DataLoaderOptions& options) : impl_(std::make_unique<Impl>(options)) {}
DataLoader::DataLoader(DataLoader&&) noexcept = default;
DataLoader::~DataLoader() = default;

DataLoader::Rows DataLoader::next() {
    try {
        impl_->verifier.check();
        const Batch& batch = impl_->batches[impl_->next_slot()];
        const uint64_t first = impl_->position + uint64_t(impl_->options.rank) * uint64_t(impl_->options.B);
        impl_->position += impl_->step;
        return {batch.tokens.data(), batch.targets.data(), first};
    } catch (const Error& error) {
        throw DataError(error.what());
    }
}

void DataLoader::seek(uint64_t position) {
    impl_->seek(position);
}

uint64_t DataLoader::position() const {
    return impl_->position;
}

uint64_t DataLoader::num_sequences() const {
    return impl_->sequences.count();
}

uint64_t DataLoader::num_tokens() const {
    return impl_->sequences.num_tokens();
}

uint64_t DataLoader::sample_fingerprint() const {
    return impl_->sequences.sample_fingerprint();
}

uint64_t DataLoader::fingerprint() const {
    return impl_->sequences.fingerprint();
}

}  // namespace kiln
