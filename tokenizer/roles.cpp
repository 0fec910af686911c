#include "tokenizer/roles.h"

#include <algorithm>

#include "tokenizer/tokenizer_impl.h"

namespace kiln {

const std::array<RoleInfo, kNumRoles>& role_table() {
    static const std::array<RoleInfo, kNumRoles> table = {{
        {Role::bos, "bos", {"<|begin_of_text|>", "<s>", "<bos>", "[BOS]"}},
        {Role::eos,
         "eos",
         {"<|endoftext|>", "</s>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "<eos>", "[EOS]", "<|end|>"}},
        {Role::unk, "unk", {"<unk>", "<|unk|>", "[UNK]"}},
        {Role::sep, "sep", {"[SEP]"}},
        {Role::pad, "pad", {"<pad>", "<|pad|>", "[PAD]", "<|padding|>"}},
        {Role::cls, "cls", {"[CLS]"}},
        {Role::mask, "mask", {"<mask>", "[MASK]"}},
    }};
    return table;
}

Roles with_usual_names(Roles roles, const std::vector<AddedToken>& added) {
    const auto special = [&](std::string_view name) {
        return std::find_if(added.begin(), added.end(),
                            [&](const AddedToken& token) { return token.special && token.content == name; });
    };
    for (const RoleInfo& info : role_table()) {
        for (const std::string_view name : info.usual_names) {
            const auto found = special(name);
            if (!roles[info.role] && found != added.end()) roles[info.role] = {found->id, kUsualName};
        }
    }
    const auto gpt2 = special("<|endoftext|>");  // GPT-2 uses one token for both
    const bool both = gpt2 != added.end() && roles[Role::eos] && roles[Role::eos]->id == gpt2->id;
    if (!roles[Role::bos] && both) roles[Role::bos] = {gpt2->id, kUsualName};
    return roles;
}

bool is_usually_special(std::string_view token) {
    return token == "<|im_start|>" || std::ranges::any_of(role_table(), [&](const RoleInfo& info) {
               return std::ranges::count(info.usual_names, token) > 0;
           });
}

}  // namespace kiln
