#include "tools/formats/json_file.h"

#include <set>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/file.h"

namespace kiln {

nlohmann::json parse_json(std::string_view text, const std::string& where) {
    using Event = nlohmann::json::parse_event_t;
    constexpr int kMaxDepth = 64;  // dump() recurses: deeper nesting could end on the stack's last page
    std::vector<std::set<std::string>> keys;
    const auto check = [&](int depth, Event event, nlohmann::json& value) {
        KILN_CHECK(depth <= kMaxDepth, where, ": is nested deeper than ", kMaxDepth, " levels");
        if (event == Event::object_start) keys.emplace_back();
        if (event == Event::object_end) keys.pop_back();
        if (event == Event::key) {
            KILN_CHECK(keys.back().insert(value.get<std::string>()).second, where, ": holds the key ", value.dump(),
                       " twice");
        }
        return true;
    };
    try {
        return nlohmann::json::parse(text, check);
    } catch (const nlohmann::json::exception& error) {
        const auto* parse = dynamic_cast<const nlohmann::json::parse_error*>(&error);
        throw Error(concat(where, ": is not valid JSON", parse ? concat(" at byte ", parse->byte) : "",
                           "; the file is damaged, get it again"));
    }
}

// The index of the tensors of the largest models has about 10 MB.
constexpr uint64_t kMaxJsonBytes = uint64_t(64) << 20;

nlohmann::json read_json(const std::filesystem::path& path) {
    return parse_json(read_file(path, kMaxJsonBytes), path.string());
}

}  // namespace kiln
