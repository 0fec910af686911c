#pragma once
// What --version prints. Increased when a release changes what users see.

namespace kiln {

inline constexpr const char* kVersion = "1.0";

}  // namespace kiln
