#include "cpu_reference/interface/bytes_text.h"

#include <cstdio>

namespace kiln {

std::string bytes_text(double bytes) {
    struct Unit {
        double bytes;
        const char* format;
    };
    constexpr Unit units[] = {{0x1p40, "%.2f TiB"}, {0x1p30, "%.2f GiB"}, {0x1p20, "%.1f MiB"}, {0x1p10, "%.1f KiB"}};
    const Unit* unit = units;
    while (bytes < unit->bytes && unit + 1 < std::end(units)) unit++;
    char text[64];
    std::snprintf(text, sizeof text, unit->format, bytes / unit->bytes);
    return text;
}

}  // namespace kiln
