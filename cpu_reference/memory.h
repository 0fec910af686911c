#pragma once
// Memory in large pieces, how much of it there is, and the threads that work on it.
#include <cstddef>
#include <string>

namespace kiln {

// Floats straight from the kernel: zero, and resident only once touched. Large ones ask for huge pages, which halves
// the time of the first step and a few percent of every other.
class MappedArray {
public:
    MappedArray() = default;
    // `purpose` stands in the message of the Error thrown if the kernel refuses.
    MappedArray(size_t elems, const char* purpose);
    ~MappedArray();
    MappedArray(MappedArray&& other) noexcept;
    MappedArray& operator=(MappedArray&& other) noexcept;

    float* data() const { return data_; }
    size_t size() const { return elems_; }
    size_t bytes() const { return elems_ * sizeof(float); }
    void discard();  // back to zero, by giving the pages back

private:
    float* data_ = nullptr;
    size_t elems_ = 0;
};

size_t resident_bytes();                 // of this process
size_t available_memory_bytes();         // what the machine, or this process's control group, has left; 0: not known
std::string format_bytes(size_t bytes);  // "1.9 GiB"

// While it lives, OpenMP regions of the calling thread run on `threads` threads, as many as scratch memory was made
// for, and these treat denormal numbers as zero: moments of weights that get no gradient decay into them, and
// arithmetic on them takes a hundred times as long.
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
