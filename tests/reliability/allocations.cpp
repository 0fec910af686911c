// operator new of the library that makes calls fail (faults.h).
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

#include "tests/reliability/faults.h"

namespace kiln::faults {
namespace {

std::atomic<int64_t> allocations_left{-1}, allocations{0};
std::atomic<bool> counting{false};

void* allocate(size_t bytes, size_t alignment) {
    if (counting) {
        allocations++;
        if (allocations_left-- == 0) {
            if (const std::new_handler handler = std::get_new_handler()) handler();
            throw std::bad_alloc();
        }
    }
    void* memory = alignment == 0 ? std::malloc(std::max<size_t>(bytes, 1))
                                  : std::aligned_alloc(alignment, (bytes + alignment) / alignment * alignment);
    if (!memory) throw std::bad_alloc();
    return memory;
}

}  // namespace

void fail_allocation(int64_t at) {
    allocations_left = at;
    allocations = 0;
    counting = true;
}

int64_t end_allocations() {
    counting = false;
    return allocations;
}

}  // namespace kiln::faults

void* operator new(size_t bytes) {
    return kiln::faults::allocate(bytes, 0);
}
void* operator new(size_t bytes, std::align_val_t alignment) {
    return kiln::faults::allocate(bytes, size_t(alignment));
}
