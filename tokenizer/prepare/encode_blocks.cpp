#include "tokenizer/prepare/encode_blocks.h"

#include <condition_variable>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "cpu_reference/interface/error.h"
#include "tokenizer/data/shard.h"
#include "tokenizer/io/file.h"
#include "tokenizer/prepare/block_parser.h"

namespace kiln {

namespace {

class Pipeline {
public:
    Pipeline(BlockReader& reader, const Tokenizer& tokenizer, const DocumentOptions& options,
             const EncodeOptions& encode, int threads, const std::function<bool(const EncodedBlock&)>& write)
        : reader_(reader),
          tokenizer_(tokenizer),
          options_(options),
          encode_(encode),
          write_(write),
          max_blocks_(2 * size_t(threads) + 2) {}

    void run(int threads) {
        {
            std::jthread reading([this] { read(); });
            std::vector<std::jthread> workers;
            const StopReading at_the_end{*this};  // also if a thread cannot be started
            for (int i = 1; i < threads; i++) workers.emplace_back([this] { work(); });
            work();
        }
        if (error_) std::rethrow_exception(error_);
    }

private:
    struct Job {
        uint64_t number = 0;
        Block block;
        size_t bytes = 0;  // of the block, which is freed early, and of its result without the tokens
        EncodedBlock result;
        std::exception_ptr error;
    };
    struct StopReading {
        Pipeline& pipeline;
        ~StopReading() { pipeline.stop_reading(); }
    };
    static constexpr size_t kBytesEach = size_t(2) << 20;

    // An error of the reader is passed on like a block, so that the blocks before it are written first.
    void read() {
        for (bool more = true; more;) {
            {
                std::unique_lock lock(mutex_);
                room_.wait(lock, [&] {
                    return stop_ || next_ == written_ ||
                           (next_ - written_ < max_blocks_ && bytes_ < max_blocks_ * kBytesEach);
                });
                if (stop_) return;
            }
            Job job;
            try {
                more = reader_.next(job.block);
            } catch (...) {
                job.error = std::current_exception();
            }
            if (!more) break;
            more = !job.error;
            // Of short records, what is known about them needs more memory than the text.
            job.bytes = job.block.size + job.block.records.size() * (sizeof(Block::Span) + sizeof(EncodedBlock::Chunk));
            job.result.split = job.block.split;
            job.result.end = job.block.end;
            job.result.bytes_read = reader_.bytes_read();
            const std::lock_guard lock(mutex_);
            job.number = next_++;
            bytes_ += job.bytes;
            read_.push_back(std::move(job));
            ready_.notify_one();
        }
        stop_reading();
    }

    void stop_reading() {
        const std::lock_guard lock(mutex_);
        stop_ = true;
        room_.notify_all();
        ready_.notify_all();
    }

    void work() {
        BlockParser parser(options_);
        std::vector<int> ids;
        for (;;) {
            Job job;
            {
                std::unique_lock lock(mutex_);
                ready_.wait(lock, [&] { return stop_ || !read_.empty(); });
                if (read_.empty() || failed()) return;
                job = std::move(read_.front());
                read_.pop_front();
            }
            if (!job.error) {
                try {
                    encode(parser, job.block, ids, job.result);
                } catch (...) {
                    job.error = std::current_exception();
                }
            }
            job.block = {};
            hand_in(std::move(job));
        }
    }

    // Packs the tokens of each chunk while they are in the L1 cache. All tokens of a block, with four bytes each, would
    // push the encoder's tables out of the L2 cache.
    void encode(BlockParser& parser, const Block& block, std::vector<int>& ids, EncodedBlock& out) {
        const int vocab_size = tokenizer_.vocab_size();
        out.tokens.reserve(block.size / 3 * size_t(shard_token_bytes(vocab_size)));  // about the size that text needs
        const auto on_chunk = [&](const Chunk& chunk) {
            EncodedBlock::Chunk& done = out.chunks.emplace_back();
            done.bad_before = out.bad.count;
            done.ends_document = chunk.ends_document;
            done.valid = chunk.valid;
            if (!chunk.valid) return;
            ids.clear();
            EncodeOptions encode = encode_;
            encode.continues = !chunk.starts_document;
            encode.continued = !chunk.ends_document;
            encode.counts = &out.counts;
            const uint64_t before = out.counts.unknown + out.counts.left_out;
            try {
                tokenizer_.encode(chunk.text, encode, ids);
                const bool unknown = out.counts.unknown + out.counts.left_out > before;
                if (unknown && out.first_unknown.empty()) out.first_unknown = block.place(chunk.at);
            } catch (const Error& error) {
                out.bad.add({block.place(chunk.at), error.what()});
                done.valid = false;
                return;
            }
            pack_tokens(ids, vocab_size, out.tokens);
            done.tokens = ids.size();
            done.text_bytes = chunk.text.size();
            done.hash = xxh3_64(chunk.text.data(), chunk.text.size());
        };
        parser.parse(block, on_chunk, out.bad);
    }

    // The thread that finishes the next block to be written writes it, and all finished blocks after it.
    void hand_in(Job job) {
        std::unique_lock lock(mutex_);
        done_.emplace(job.number, std::move(job));
        if (writing_) return;
        writing_ = true;
        for (auto first = done_.begin(); first != done_.end() && first->first == written_; first = done_.begin()) {
            const Job now = std::move(first->second);
            done_.erase(first);
            const bool skip = failed();
            lock.unlock();
            std::exception_ptr error = now.error;
            bool more = true;
            if (!skip && !error) {
                try {
                    more = write_(now.result);
                } catch (...) {
                    error = std::current_exception();
                }
            }
            lock.lock();
            if (!skip && error) error_ = error;
            if (!more) ended_ = true;
            stop_ = stop_ || failed();
            bytes_ -= now.bytes;
            written_++;
            room_.notify_all();
            if (stop_) ready_.notify_all();
        }
        writing_ = false;
    }

    bool failed() const { return error_ || ended_; }

    BlockReader& reader_;
    const Tokenizer& tokenizer_;
    const DocumentOptions& options_;
    const EncodeOptions encode_;
    const std::function<bool(const EncodedBlock&)>& write_;
    const size_t max_blocks_;

    std::mutex mutex_;
    std::condition_variable room_, ready_;  // there is room for a block; a block is ready to encode
    std::deque<Job> read_;
    std::map<uint64_t, Job> done_;
    uint64_t next_ = 0, written_ = 0;  // number of blocks read, written
    size_t bytes_ = 0;                 // of the blocks between these two
    bool stop_ = false;                // no more blocks are read
    bool writing_ = false, ended_ = false;
    std::exception_ptr error_;
};

}  // namespace

void encode_blocks(BlockReader& reader, const Tokenizer& tokenizer, const DocumentOptions& options,
                   const EncodeOptions& encode, int threads, const std::function<bool(const EncodedBlock&)>& write) {
    Pipeline(reader, tokenizer, options, encode, threads, write).run(threads);
}

}  // namespace kiln
