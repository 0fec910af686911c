#pragma once
// The roles of tokens: which one begins a text, ends it, fills a batch ... This is the only place that knows their
// names.
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kiln {

enum class Role { bos, eos, unk, sep, pad, cls, mask };  // in the order in which transformers adds their tokens
inline constexpr size_t kNumRoles = 7;

struct RoleInfo {
    Role role;
    std::string_view name;                      // "eos": the files say "eos_token" and "eos_token_id"
    std::vector<std::string_view> usual_names;  // of its token, by precedence, if no file tells which it is
};
const std::array<RoleInfo, kNumRoles>& role_table();  // by role

struct RoleToken {
    int id = -1;
    std::string source;  // the file that says so
};

class Roles {
public:
    std::optional<RoleToken>& operator[](Role role) { return tokens_[static_cast<size_t>(role)]; }
    const std::optional<RoleToken>& operator[](Role role) const { return tokens_[static_cast<size_t>(role)]; }

private:
    std::array<std::optional<RoleToken>, kNumRoles> tokens_;
};

struct AddedToken;
inline constexpr const char* kUsualName = "its usual name";  // a source
// Gives each role without a token the first of its usual names that is a special token.
Roles with_usual_names(Roles roles, const std::vector<AddedToken>& added);

// Whether a token of this text usually is special. vocab.json and .tiktoken files do not say so.
bool is_usually_special(std::string_view token);

}  // namespace kiln
