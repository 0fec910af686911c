#pragma once
#include <string>

namespace kiln {

std::string bytes_text(double bytes);  // "412.0 MiB"

}  // namespace kiln
