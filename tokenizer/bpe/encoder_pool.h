#pragma once
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "tokenizer/bpe/encoder.h"

namespace kiln {

// Keeps encoders with their caches between calls: one for each call that ran at the same time.
class EncoderPool {
public:
    explicit EncoderPool(const BpeModel& model) : model_(model) {}

    class Lease {
    public:
        explicit Lease(EncoderPool& pool) : pool_(pool), encoder_(pool.take()) {}
        Lease(const Lease&) = delete;
        ~Lease() { pool_.put_back(std::move(encoder_)); }
        BpeEncoder& encoder() { return *encoder_; }

    private:
        EncoderPool& pool_;
        std::unique_ptr<BpeEncoder> encoder_;
    };

private:
    std::unique_ptr<BpeEncoder> take() {
        const std::lock_guard lock(mutex_);
        if (idle_.empty()) {
            idle_.reserve(++made_);  // so that putting one back allocates nothing and cannot throw
            return std::make_unique<BpeEncoder>(model_);
        }
        auto encoder = std::move(idle_.back());
        idle_.pop_back();
        return encoder;
    }
    void put_back(std::unique_ptr<BpeEncoder> encoder) noexcept {
        const std::lock_guard lock(mutex_);
        idle_.push_back(std::move(encoder));
    }

    const BpeModel& model_;
    std::mutex mutex_;
    std::vector<std::unique_ptr<BpeEncoder>> idle_;
    size_t made_ = 0;
};

}  // namespace kiln
