#pragma once
// Large arrays, the amount of memory, and the threads of the engine.
#include <cstddef>
#include <string>

namespace kiln {

// Floats that the kernel maps: they are 0, and take memory only after the first access. Large arrays ask for huge
// pages: the first step then takes half the time, and each later step a few percent less.
class MappedArray {
public:
    MappedArray() = default;
    // Throws Error, with `purpose` in the message, if the kernel refuses.
    MappedArray(size_t elems, const char* purpose);
    ~MappedArray();
    MappedArray(MappedArray&& other) noexcept;
    MappedArray& operator=(MappedArray&& other) noexcept;

    float* data() const { return data_; }
    size_t size() const { return elems_; }
    size_t bytes() const { return elems_ * sizeof(float); }
    void discard();  // gives the pages back, so that all values are 0 again

private:
    float* data_ = nullptr;
    size_t elems_ = 0;
};

size_t resident_bytes();  // of this process

// During its lifetime OpenMP regions of the calling thread run on `threads` threads, the number that has scratch
// memory, and these threads take denormal numbers as 0. The optimizer state of a weight without gradients decays to
// denormal numbers, and arithmetic with them takes a hundred times as long.
class PoolScope {
public:
    explicit PoolScope(int threads);
    ~PoolScope();
    PoolScope(const PoolScope&) = delete;
    PoolScope& operator=(const PoolScope&) = delete;

private:
    int saved_threads_;
    unsigned saved_control_ = 0;
};

}  // namespace kiln
