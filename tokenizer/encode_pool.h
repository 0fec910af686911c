#pragma once
// Threads that tokenize batches of pieces; results come out in the order the batches went in.
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "tokenizer/documents.h"
#include "tokenizer/tokenizer.h"

namespace kiln {

struct EncodedBatch {
    std::vector<Piece> pieces;
    std::vector<std::vector<int>> ids;  // of each piece
};

class EncodePool {
public:
    EncodePool(const Tokenizer& tokenizer, int threads);
    EncodePool(const EncodePool&) = delete;
    ~EncodePool();  // what is not done yet is dropped

    void push(std::vector<Piece> pieces);
    size_t in_flight() const { return order_.size(); }  // pushed, not popped
    // The oldest batch, once it is done. Throws what its encoding threw. in_flight() must not be 0.
    EncodedBatch pop();

private:
    struct Job {
        EncodedBatch batch;
        std::exception_ptr error;
        bool done = false;
    };
    void work();

    const Tokenizer& tokenizer_;
    std::deque<std::shared_ptr<Job>> order_;  // the caller's: every job in flight
    std::mutex mutex_;
    std::condition_variable to_do_changed_, done_changed_;
    std::deque<std::shared_ptr<Job>> to_do_;
    bool stop_ = false;
    std::vector<std::thread> threads_;
};

}  // namespace kiln
