// How far the device's approximations are off.
#include "dev/emulator/core/internal.h"

namespace simt {
namespace {

unsigned& errors() {
    static unsigned value = number_from_environment("SIMT_ERRORS", 1);
    return value;
}

}  // namespace

void set_errors(unsigned value) {
    errors() = value;
}

float approximated(float exact, std::initializer_list<float> operands, int ulps) {
    if (errors() == 0 || !std::isnormal(exact)) return exact;
    uint32_t hash = errors();
    for (const float operand : operands) {
        if (operand == 0.0f) return exact;  // e^0 is 1, and 0 / x is 0
        hash = (hash ^ std::bit_cast<uint32_t>(operand)) * 0x9E3779B1u;
        hash ^= hash >> 15;
    }
    // As integers, the bits of neighbouring positive floats differ by 1.
    const float size = std::fabs(exact);
    const int off = int(hash % unsigned(2 * ulps + 1)) - ulps;
    const auto near = std::bit_cast<float>(uint32_t(int(std::bit_cast<uint32_t>(size)) + off));
    return std::isnormal(near) ? std::copysign(near, exact) : exact;
}

}  // namespace simt
