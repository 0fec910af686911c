#include "tokenizer/encode_pool.h"

#include <utility>

namespace kiln {

EncodePool::EncodePool(const Tokenizer& tokenizer, int threads) : tokenizer_(tokenizer) {
    for (int i = 0; i < threads; i++) threads_.emplace_back([this] { work(); });
}

EncodePool::~EncodePool() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    to_do_changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
}

void EncodePool::push(std::vector<Piece> pieces) {
    auto job = std::make_shared<Job>();
    job->batch.pieces = std::move(pieces);
    order_.push_back(job);
    {
        const std::lock_guard lock(mutex_);
        to_do_.push_back(std::move(job));
    }
    to_do_changed_.notify_one();
}

EncodedBatch EncodePool::pop() {
    const std::shared_ptr<Job> job = std::move(order_.front());
    order_.pop_front();
    std::unique_lock lock(mutex_);
    done_changed_.wait(lock, [&] { return job->done; });
    if (job->error) std::rethrow_exception(job->error);
    return std::move(job->batch);
}

void EncodePool::work() {
    for (;;) {
        std::shared_ptr<Job> job;
        {
            std::unique_lock lock(mutex_);
            to_do_changed_.wait(lock, [&] { return stop_ || !to_do_.empty(); });
            if (stop_) return;
            job = std::move(to_do_.front());
            to_do_.pop_front();
        }
        std::exception_ptr error;
        try {
            for (const Piece& piece : job->batch.pieces) {
                job->batch.ids.push_back(tokenizer_.encode(piece.text, {.continues = !piece.starts_document}));
            }
        } catch (...) {
            error = std::current_exception();
        }
        {
            const std::lock_guard lock(mutex_);
            job->error = error;
            job->done = true;
        }
        done_changed_.notify_one();  // only the caller waits
    }
}

}  // namespace kiln
