// The libFuzzer program. The environment variable KILN_FUZZ_TARGET names the target. An input whose memory is out of
// proportion to its size is a finding, as a crash is.
#include <sanitizer/allocator_interface.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cpu_reference/interface/error.h"
#include "tests/fuzz/targets.h"

namespace {

// The bytes that this thread holds, and the most that it held, since the input began.
thread_local int64_t held = 0, most = 0;

void count_allocation(const volatile void*, size_t bytes) {
    most = std::max(most, held += int64_t(bytes));
}
void count_release(const volatile void* memory) {
    held -= int64_t(__sanitizer_get_allocated_size(memory));
}

// A node of a parsed JSON document has a hundred bytes for two of text; the tables of a tokenizer have a fixed size.
constexpr int64_t kConstant = int64_t(8) << 20, kPerByte = 200;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const kiln::FuzzTarget* const target = [] {
        __sanitizer_install_malloc_and_free_hooks(count_allocation, count_release);
        const char* const wanted = std::getenv("KILN_FUZZ_TARGET");
        for (const kiln::FuzzTarget& candidate : kiln::fuzz_targets) {
            if (wanted && std::strcmp(wanted, candidate.name) == 0) return &candidate;
        }
        std::fprintf(stderr, "fuzz: KILN_FUZZ_TARGET names no target; dev/fuzz.sh sets it\n");
        std::exit(2);
    }();
    held = most = 0;
    try {
        target->run({reinterpret_cast<const char*>(data), size});
    } catch (const kiln::Error&) {
        // allowed
    }
    if (most > kConstant + kPerByte * int64_t(size)) {
        std::fprintf(stderr, "fuzz: %zu bytes of input took %lld bytes of memory\n", size,
                     static_cast<long long>(most));
        std::abort();
    }
    return 0;
}
