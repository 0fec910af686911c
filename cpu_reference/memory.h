#pragma once
// Memory in large pieces, and how much of it there is.
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

// While it lives, all threads of the OpenMP pool treat denormal numbers as zero: moments of weights that get no
// gradient decay into them, and arithmetic on them takes a hundred times as long.
class FlushDenormals {
public:
    FlushDenormals();
    ~FlushDenormals();
    FlushDenormals(const FlushDenormals&) = delete;
    FlushDenormals& operator=(const FlushDenormals&) = delete;

private:
    unsigned saved_ = 0;
};

}  // namespace kiln
