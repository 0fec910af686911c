#include "tools/checkpoint/names.h"

#include <charconv>
#include <cstdio>

namespace kiln {

std::string new_link_name(std::string_view link) {
    return "." + std::string(link) + ".new";
}

std::string checkpoint_name(int64_t step) {
    char name[64];
    std::snprintf(name, sizeof(name), "checkpoint-%08lld", static_cast<long long>(step));
    return name;
}

std::optional<int64_t> step_of(std::string_view name) {
    if (!name.starts_with(kPrefix)) return std::nullopt;
    name.remove_prefix(kPrefix.size());
    int64_t step = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step);
    if (error != std::errc() || end != name.data() + name.size() || step < 0) return std::nullopt;
    return step;
}

}  // namespace kiln
