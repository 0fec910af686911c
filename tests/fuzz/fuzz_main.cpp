// The libFuzzer program. The environment variable KILN_FUZZ_TARGET names the target.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cpu_reference/interface/error.h"
#include "tests/fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const kiln::FuzzTarget* const target = [] {
        const char* const wanted = std::getenv("KILN_FUZZ_TARGET");
        for (const kiln::FuzzTarget& candidate : kiln::fuzz_targets) {
            if (wanted && std::strcmp(wanted, candidate.name) == 0) return &candidate;
        }
        std::fprintf(stderr, "fuzz: KILN_FUZZ_TARGET names no target; dev/fuzz.sh sets it\n");
        std::exit(2);
    }();
    try {
        target->run({reinterpret_cast<const char*>(data), size});
    } catch (const kiln::Error&) {
        // allowed
    }
    return 0;
}
