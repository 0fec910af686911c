#include "cpu_reference/memory.h"

#include <omp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

#include "cpu_reference/interface/backend.h"
#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"

namespace kiln {
namespace {

constexpr size_t kHugePage = size_t(2) << 20;

size_t first_number(const char* path) {
    std::ifstream file(path);
    size_t value = 0;
    return file >> value ? value : 0;
}

}  // namespace

MappedArray::MappedArray(size_t elems, const char* purpose) : elems_(elems) {
    if (elems == 0) return;
    void* memory = mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        elems_ = 0;
        throw Error(concat("cannot allocate ", bytes_text(double(elems * sizeof(float))), " for ", purpose, ": ",
                           std::strerror(errno), "; lower the batch size or take a smaller model"));
    }
    data_ = static_cast<float*>(memory);
    if (bytes() >= kHugePage) madvise(memory, bytes(), MADV_HUGEPAGE);  // a wish: without it all works, slower
}

MappedArray::~MappedArray() {
    if (data_) munmap(data_, bytes());
}

MappedArray::MappedArray(MappedArray&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), elems_(std::exchange(other.elems_, 0)) {}

MappedArray& MappedArray::operator=(MappedArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(elems_, other.elems_);
    return *this;
}

void MappedArray::discard() {
    if (data_) madvise(data_, bytes(), MADV_DONTNEED);
}

size_t resident_bytes() {
    std::ifstream file("/proc/self/statm");
    size_t total = 0, resident = 0;
    file >> total >> resident;
    return resident * size_t(sysconf(_SC_PAGESIZE));
}

size_t available_memory_bytes() {
    std::ifstream file("/proc/meminfo");
    std::string key;
    size_t available = 0;
    for (size_t value; file >> key >> value; file.ignore(64, '\n')) {
        if (key == "MemAvailable:") available = value * 1024;
    }
    const size_t limit = first_number("/sys/fs/cgroup/memory.max");  // "max", no number, without a limit
    if (limit > 0) {
        const size_t used = first_number("/sys/fs/cgroup/memory.current");
        available = std::min(available, limit > used ? limit - used : 0);
    }
    return available;
}

namespace {

// Of the calling thread. Does nothing except on x86.
unsigned float_control() {
#ifdef __SSE__
    return _mm_getcsr();
#else
    return 0;
#endif
}

void set_float_control([[maybe_unused]] unsigned control) {
#ifdef __SSE__
    _mm_setcsr(control);
#endif
}

}  // namespace

PoolScope::PoolScope(int threads) : saved_threads_(omp_get_max_threads()), saved_control_(float_control()) {
    constexpr unsigned kFlushToZero = 0x8000, kDenormalsAreZero = 0x0040;
    const unsigned control = saved_control_ | kFlushToZero | kDenormalsAreZero;
    omp_set_num_threads(threads);
#pragma omp parallel
    set_float_control(control);
}

PoolScope::~PoolScope() {
    const unsigned control = saved_control_;
#pragma omp parallel
    set_float_control(control);
    omp_set_num_threads(saved_threads_);
}

}  // namespace kiln
