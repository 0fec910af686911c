#include "dev/emulator/core/architecture.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>

#include "dev/emulator/core/internal.h"

namespace simt {

namespace {

// CUDA C++ Programming Guide, "Technical specifications per compute capability".
constexpr int KB = 1024;
constexpr Architecture kArchitectures[] = {
    {75, 75, 64 * KB, 64 * KB, 0, 1024, 16},    {80, 80, 163 * KB, 164 * KB, KB, 2048, 32},
    {86, 80, 99 * KB, 100 * KB, KB, 1536, 16},  {89, 80, 99 * KB, 100 * KB, KB, 1536, 24},
    {90, 90, 227 * KB, 228 * KB, KB, 2048, 32}, {100, 100, 227 * KB, 228 * KB, KB, 2048, 32},
    {120, 120, 99 * KB, 100 * KB, KB, 1536, 24}};

const Architecture& find(int capability) {
    const auto* const found = std::ranges::find(kArchitectures, capability, &Architecture::capability);
    if (found != std::end(kArchitectures)) return *found;
    throw Failure("simt: the emulator does not know sm_" + std::to_string(capability) +
                  "; dev/emulator/core/architecture.cpp lists what it knows");
}

const Architecture& first() {
    const char* const text = std::getenv("SIMT_ARCH");
    static const Architecture& first = find(text ? std::atoi(text) : 90);
    return first;
}

const Architecture*& played() {
    static const Architecture* played = &first();
    return played;
}

}  // namespace

const Architecture& architecture() {
    return *played();
}

void set_architecture(int capability) {
    played() = &find(capability);
}

int device_ordinal() {
    constexpr auto kCount = std::ssize(kArchitectures);
    return int((played() - &first() + kCount) % kCount);
}

}  // namespace simt
