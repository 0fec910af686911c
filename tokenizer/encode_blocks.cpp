#include "tokenizer/encode_blocks.h"

#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "cpu_reference/error.h"
#include "tokenizer/block_parser.h"
#include "tokenizer/file.h"

namespace kiln {

namespace {

class Pipeline {
public:
    Pipeline(BlockReader& reader, const Tokenizer& tokenizer, const DocumentOptions& options, int threads,
             const std::function<bool(const EncodedBlock&)>& write)
        : reader_(reader),
          tokenizer_(tokenizer),
          options_(options),
          write_(write),
          max_blocks_(2 * size_t(threads) + 2) {}

    void run(int threads) {
        {
            std::vector<std::jthread> helpers;
            for (int i = 1; i < threads; i++) helpers.emplace_back([this] { work(); });
            work();
        }
        if (error_) std::rethrow_exception(error_);
    }

private:
    struct Job {
        EncodedBlock result;
        size_t bytes = 0;  // of the block
        std::exception_ptr error;
    };
    static constexpr size_t kBytesEach = size_t(1) << 20;

    void work() {
        BlockParser parser(options_);
        for (;;) {
            Block block;
            Job job;
            uint64_t number;
            if (!read(block, job, number)) return;
            if (!job.error) {
                try {
                    encode(parser, block, job.result);
                } catch (...) {
                    job.error = std::current_exception();
                }
            }
            block = {};
            hand_in(number, std::move(job));
        }
    }

    // An error of the reader is handed on like a block, so that those before it are written first.
    bool read(Block& block, Job& job, uint64_t& number) {
        const std::lock_guard reading(read_mutex_);
        {
            std::unique_lock lock(mutex_);
            room_.wait(lock, [&] {
                return stop_ || next_ == written_ ||
                       (next_ - written_ < max_blocks_ && bytes_ < max_blocks_ * kBytesEach);
            });
            if (stop_) return false;
        }
        bool more = true;
        try {
            more = reader_.next(block);
        } catch (...) {
            job.error = std::current_exception();
        }
        const std::lock_guard lock(mutex_);
        if (!more || stop_) {
            stop_ = true;
            return false;
        }
        if (job.error) stop_ = true;
        job.bytes = block.size;
        job.result.end = block.end;
        job.result.bytes_read = reader_.bytes_read();
        bytes_ += job.bytes;
        number = next_++;
        return true;
    }

    void encode(BlockParser& parser, const Block& block, EncodedBlock& out) {
        out.ids.reserve(block.size / 3);  // about what text needs
        const auto on_piece = [&](const Piece& piece) {
            EncodedBlock::Piece& done = out.pieces.emplace_back();
            done.ends_document = piece.ends_document;
            done.valid = piece.valid;
            if (!piece.valid) return;
            const size_t before = out.ids.size();
            try {
                tokenizer_.encode(piece.text, {.continues = !piece.starts_document}, out.ids);
            } catch (const Error& error) {
                out.ids.resize(before);
                out.bad.push_back({block.place(piece.at), error.what()});
                done.valid = false;
                return;
            }
            done.tokens = out.ids.size() - before;
            done.text_bytes = piece.text.size();
            done.hash = xxh3_64(piece.text.data(), piece.text.size());
        };
        parser.parse(block, on_piece, out.bad);
    }

    // Whoever hands in the block that is wanted next writes it, and all that wait behind it.
    void hand_in(uint64_t number, Job job) {
        std::unique_lock lock(mutex_);
        done_.emplace(number, std::move(job));
        if (writing_) return;
        writing_ = true;
        for (auto first = done_.begin(); first != done_.end() && first->first == written_; first = done_.begin()) {
            const Job now = std::move(first->second);
            done_.erase(first);
            const bool failed = error_ != nullptr || ended_;
            lock.unlock();
            std::exception_ptr error = now.error;
            bool go_on = true;
            if (!failed && !error) {
                try {
                    go_on = write_(now.result);
                } catch (...) {
                    error = std::current_exception();
                }
            }
            lock.lock();
            if (!failed && error) error_ = error;
            if (!go_on) ended_ = true;
            stop_ = stop_ || error_ || ended_;
            bytes_ -= now.bytes;
            written_++;
            room_.notify_all();
        }
        writing_ = false;
    }

    BlockReader& reader_;
    const Tokenizer& tokenizer_;
    const DocumentOptions& options_;
    const std::function<bool(const EncodedBlock&)>& write_;
    const size_t max_blocks_;

    std::mutex read_mutex_;  // taken before mutex_
    std::mutex mutex_;
    std::condition_variable room_;
    std::map<uint64_t, Job> done_;
    uint64_t next_ = 0, written_ = 0;  // blocks read; written
    size_t bytes_ = 0;                 // of the blocks in between
    bool stop_ = false;                // nothing more is read
    bool writing_ = false, ended_ = false;
    std::exception_ptr error_;
};

}  // namespace

void encode_blocks(BlockReader& reader, const Tokenizer& tokenizer, const DocumentOptions& options, int threads,
                   const std::function<bool(const EncodedBlock&)>& write) {
    Pipeline(reader, tokenizer, options, threads, write).run(threads);
}

}  // namespace kiln
