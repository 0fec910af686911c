// Tokenizer directories are read as Hugging Face's libraries read them: directories.json has their answers, which
// dev/fixtures/make_directory_fixtures.py wrote.
#include <gtest/gtest.h>

#include "cpu_reference/interface/error.h"
#include "tests/support/sentencepiece_models.h"
#include "tests/support/temp_directory.h"
#include "tests/support/tokenizer_fixtures.h"
#include "tokenizer/tokenizer.h"

namespace kiln {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<int>;

const Json& fixture() {
    static const Json json = Json::parse(slurp(tokenizer_fixture("directories.json")));
    return json;
}

// Members of `patch` replace those of `target`; objects are merged.
void patch(Json& target, const Json& changes) {
    for (const auto& [key, value] : changes.items()) {
        if (value.is_object() && target.contains(key) && target[key].is_object()) {
            patch(target[key], value);
        } else {
            target[key] = value;
        }
    }
}

Json tokenizer_json(const Json& c) {
    Json json = fixture()["bases"][c["base"].get<std::string>()];
    patch(json, c["patch"]);
    return json;
}

void write(const TempDirectory& directory, const Json& c) {
    directory.write("tokenizer.json", tokenizer_json(c).dump());
    for (const auto& [name, content] : c["side"].items()) directory.write(name, content.dump());
}

void expect_same(const Tokenizer& tokenizer, const Json& c, const std::string& what) {
    EXPECT_EQ(tokenizer.vocab_size(), c["size"].get<int>()) << what;
    for (const RoleInfo& info : role_table()) {
        const auto expected = c["roles"].find(std::string(info.name));
        const auto& role = tokenizer.roles()[info.role];
        if (expected != c["roles"].end()) {
            EXPECT_EQ(role ? role->id : -1, expected->get<int>()) << what << info.name;
        }
    }
    for (size_t i = 0; i < c["texts"].size(); ++i) {
        const std::string text = c["texts"][i];
        EXPECT_EQ(tokenizer.encode(text, {.allow_special = true}), c["ids"][i].get<Ids>()) << what << text;
        EXPECT_EQ(tokenizer.encode_with_offsets(text, {.allow_special = true}).ids, c["ids"][i].get<Ids>()) << what;
    }
}

TEST(TokenizerDirectory, is_read_as_hugging_face_reads_it) {
    for (const Json& c : fixture()["cases"]) {
        const TempDirectory directory;
        write(directory, c);
        expect_same(Tokenizer::load(directory.path()), c, c["name"].get<std::string>() + ": ");
    }
}

TEST(TokenizerDirectory, a_saved_copy_has_all_of_it) {
    for (const Json& c : fixture()["cases"]) {
        const TempDirectory directory, saved;
        write(directory, c);
        Tokenizer::load(directory.path()).save(saved.path());
        expect_same(Tokenizer::load(saved.path()), c, c["name"].get<std::string>() + ", saved: ");
    }
}

TEST(TokenizerDirectory, roles_name_the_file_that_gives_them) {
    const TempDirectory directory;
    const auto source = [&](Role role) {
        const Tokenizer tokenizer = Tokenizer::load(directory.path());
        return tokenizer.roles()[role] ? tokenizer.roles()[role]->source : "none";
    };
    write(directory, fixture()["cases"][0]);
    EXPECT_EQ(source(Role::eos), "tokenizer_config.json");
    EXPECT_EQ(source(Role::mask), "none");
    std::filesystem::remove(directory / "tokenizer_config.json");
    EXPECT_EQ(source(Role::eos), kUsualName);
    directory.write("config.json", R"({"eos_token_id": [258, 256], "pad_token_id": null, "bos_token_id": 999})");
    EXPECT_EQ(source(Role::eos), "config.json");
    EXPECT_EQ(Tokenizer::load(directory.path()).end_of_text(), 258);
    EXPECT_EQ(source(Role::bos), "none");  // no token has this id, and <|endoftext|> does not end a document
    directory.write("special_tokens_map.json", R"({"eos_token": "<|im_start|>"})");
    EXPECT_EQ(source(Role::eos), "special_tokens_map.json");
}

TEST(TokenizerDirectory, plain_text_is_never_a_special_token) {
    for (const Json& c : fixture()["cases"]) {
        const std::string name = c["name"];
        const TempDirectory directory;
        write(directory, c);
        const Tokenizer tokenizer = Tokenizer::load(directory.path());
        for (const std::string text : c["texts"]) {
            for (const int id : tokenizer.encode(text)) {
                // One byte has no other token; a byte without a token becomes the unk token.
                const auto& unk = tokenizer.roles()[Role::unk];
                const bool needed = tokenizer.token_bytes(id).size() == 1 || (unk && unk->id == id);
                EXPECT_TRUE(needed || !tokenizer.is_special(id)) << name << ": " << text;
            }
        }
    }
}

TEST(TokenizerDirectory, only_listed_special_tokens_are_allowed_and_the_others_are_counted) {
    const TempDirectory directory;
    write(directory, fixture()["cases"][0]);
    const Tokenizer tokenizer = Tokenizer::load(directory.path());
    const std::vector<bool> allowed = tokenizer.special_ids({"<|im_end|>"});
    EncodeCounts counts;
    const Ids ids =
        tokenizer.encode("<|im_start|>a<|im_end|>", {.allow_special = true, .allowed = &allowed, .counts = &counts});
    EXPECT_EQ(ids.back(), 258);
    EXPECT_NE(ids.front(), 257);
    EXPECT_EQ(counts.special_as_text, 1u);
    EXPECT_EQ(counts.first_special, 257);
    EXPECT_THROW(tokenizer.special_ids({"<none>"}), Error);
}

TEST(TokenizerDirectory, a_tokenizer_json_that_kiln_cannot_read_gives_way_to_the_model_beside_it) {
    const TempDirectory directory;
    Json json = tokenizer_json(fixture()["cases"][0]);
    json["model"]["type"] = "Unigram";
    directory.write("tokenizer.json", json.dump());
    EXPECT_THROW(Tokenizer::load(directory.path()), Error);
    directory.write("tokenizer.model", train_sentencepiece({{"model_type", "bpe"}}));
    const Tokenizer tokenizer = Tokenizer::load(directory.path());
    EXPECT_NE(tokenizer.note().find("tokenizer.model is used instead of tokenizer.json"), std::string::npos);
    EXPECT_NE(tokenizer.note().find("Unigram"), std::string::npos);
}

}  // namespace
}  // namespace kiln
