#pragma once
// JSON from files of other programs. Every failure is an Error with the path; invalid JSON also with the byte.
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace kiln {

// Throws Error beginning with `where` on invalid JSON, a repeated key, or nesting deeper than 64.
nlohmann::json parse_json(std::string_view text, const std::string& where);

nlohmann::json read_json(const std::filesystem::path& path);

}  // namespace kiln
