#include "tools/formats/llmc.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "cpu_reference/interface/error.h"
#include "tests/support/stored_models.h"
#include "tests/support/temp_directory.h"
#include "tests/support/tokenizer_fixtures.h"
#include "tokenizer/formats/llmc.h"

namespace kiln {
namespace {

// L 2, C 8, NH 2, V 11, max_T 6: wte has 128 rows in the file.
constexpr const char* kModel = "gpt2:layers=2,dim=8,heads=2,vocab=11,ctx=6";

class LlmcModel : public testing::Test {
protected:
    LlmcModel() { engine.fill(0); }  // each value is its offset in the arena
    std::string written(const char* type = "f32") {
        write_llmc(directory / "model.bin", stored(engine), type, nullptr);
        return read_file(directory / "model.bin");
    }
    float offset_of(const char* name) const {
        for (const TensorSpec& spec : param_table(engine.config())) {
            if (spec.name == name) return float(spec.offset);
        }
        ADD_FAILURE() << name;
        return -1;
    }
    TempDirectory directory;
    FakeEngine engine{parse_model(kModel)};
};

TEST_F(LlmcModel, header_and_tensors_are_where_llmc_reads_them) {
    const std::string file = written();
    const int32_t header[] = {20240326, 3, 6, 11, 2, 2, 8, 128, 0};
    for (size_t i = 0; i < std::size(header); i++) EXPECT_EQ(value_at<int32_t>(file, 4 * i), header[i]) << i;
    // Elements before each tensor, by llm.c's formulas for L = 2, C = 8, Vp = 128, max_T = 6.
    const std::tuple<size_t, const char*, const char*> tensors[] = {{0, "wte", ""},
                                                                    {1024, "wpe", ""},
                                                                    {1072, "block.0.ln1_w", "block.1.ln1_w"},
                                                                    {1088, "block.0.ln1_b", "block.1.ln1_b"},
                                                                    {1104, "block.0.qkv_w", "block.1.qkv_w"},
                                                                    {1488, "block.0.qkv_b", "block.1.qkv_b"},
                                                                    {1536, "block.0.attn_out_w", "block.1.attn_out_w"},
                                                                    {1664, "block.0.attn_out_b", "block.1.attn_out_b"},
                                                                    {1680, "block.0.ln2_w", "block.1.ln2_w"},
                                                                    {1696, "block.0.ln2_b", "block.1.ln2_b"},
                                                                    {1712, "block.0.fc_w", "block.1.fc_w"},
                                                                    {2224, "block.0.fc_b", "block.1.fc_b"},
                                                                    {2288, "block.0.proj_w", "block.1.proj_w"},
                                                                    {2800, "block.0.proj_b", "block.1.proj_b"},
                                                                    {2816, "lnf_w", ""},
                                                                    {2824, "lnf_b", ""},
                                                                    {2832, "", ""}};
    EXPECT_EQ(file.size(), 1024 + 4 * 2832u);
    for (size_t i = 0; i + 1 < std::size(tensors); i++) {
        const auto& [first, name, second] = tensors[i];
        const size_t elems = std::get<0>(tensors[i + 1]) - first;
        EXPECT_EQ(value_at<float>(file, 1024 + 4 * first), offset_of(name)) << name;
        if (*second == '\0') continue;
        EXPECT_EQ(value_at<float>(file, 1024 + 4 * (first + elems / 2)), offset_of(second)) << second;
    }
    EXPECT_EQ(value_at<float>(file, 1024 + 4 * 87), 87);  // the last of wte
    for (size_t i = 88; i < 1024; i++) EXPECT_EQ(value_at<float>(file, 1024 + 4 * i), 0) << "padding of wte";
    EXPECT_EQ(value_at<float>(file, 1024 + 4 * (1104 + 9)), offset_of("block.0.qkv_w") + 9) << "(out, in)";
}

TEST_F(LlmcModel, float32_round_trips_bit_for_bit) {
    const std::string file = written();
    const StoredModel read = open_llmc(directory / "model.bin");
    EXPECT_TRUE(read.config == engine.config()) << describe(read.config);
    EXPECT_EQ(read.dtype, "F32");
    EXPECT_EQ(values_of(read), engine.arena(Arena::params));
    write_llmc(directory / "again.bin", read, "f32", nullptr);
    EXPECT_EQ(read_file(directory / "again.bin"), file);
}

TEST_F(LlmcModel, bfloat16_rounds_to_the_nearest_even) {
    std::vector<float>& values = engine.arena(Arena::params);
    const float in[] = {1.0f, 1.00390625f, 1.01171875f, 1.00390637f, -2.5f, 3.3895314e38f, 1e-41f};
    const uint16_t out[] = {0x3F80, 0x3F80, 0x3F82, 0x3F81, 0xC020, 0x7F7F, 0x0000};
    std::ranges::fill(values, 1.0f);
    std::ranges::copy(in, values.begin());
    const std::string file = written("bf16");
    EXPECT_EQ(value_at<int32_t>(file, 4), 5);
    EXPECT_EQ(file.size(), 1024 + 2 * 2832u);
    for (size_t i = 0; i < std::size(out); i++) EXPECT_EQ(value_at<uint16_t>(file, 1024 + 2 * i), out[i]) << in[i];
    const StoredModel read = open_llmc(directory / "model.bin");
    EXPECT_EQ(read.dtype, "BF16");
    EXPECT_EQ(values_of(read)[2], 1.015625f);
    write_llmc(directory / "again.bin", read, "bf16", nullptr);
    EXPECT_EQ(read_file(directory / "again.bin"), file);
}

TEST_F(LlmcModel, a_number_beyond_the_range_of_bfloat16_is_refused) {
    engine.arena(Arena::params)[3] = 3.4e38f;  // would be rounded to infinity
    const std::string error = error_of([&] { written("bf16"); });
    EXPECT_NE(error.find("'wte' holds 3.4e+38, which is beyond the range of bfloat16"), std::string::npos) << error;
    EXPECT_FALSE(std::filesystem::exists(directory / "model.bin"));
}

TEST_F(LlmcModel, progress_ends_at_the_size_of_the_file) {
    uint64_t last = 0, all = 0;
    write_llmc(directory / "model.bin", stored(engine), "f32", [&](uint64_t done, uint64_t of) {
        EXPECT_GT(done, last);
        last = done, all = of;
    });
    EXPECT_EQ(last, all);
    EXPECT_EQ(all, std::filesystem::file_size(directory / "model.bin"));
}

TEST_F(LlmcModel, only_gpt2s_architecture_is_written) {
    for (const char* other : {"gpt2:layers=1,dim=8,heads=2,vocab=11,ctx=6,tied=0", "gpt2:layers=1,dim=8,heads=2,ffn=40",
                              "gpt2:layers=1,dim=8,heads=2,vocab=11,ctx=6,eps=1e-6",
                              "gpt2:layers=1,dim=8,heads=4,kv_heads=2,vocab=11,ctx=6",
                              "llama:layers=1,dim=8,heads=2,vocab=11", "qwen3:layers=1,dim=8,heads=2,vocab=11"}) {
        FakeEngine fake(parse_model(other));
        const std::string message =
            error_of([&] { write_llmc(directory / "other.bin", stored(fake), "f32", nullptr); });
        EXPECT_NE(message.find(concat("llm.c's files hold only GPT-2's architecture; this model is ",
                                      describe(fake.config()), ", and there it would be gpt2:")),
                  message.npos)
            << message;
        EXPECT_FALSE(std::filesystem::exists(directory / "other.bin"));
    }
    FakeEngine fake(parse_model(concat(kModel, ",dropout=0.1,init_std=0.1")));  // only training uses these
    EXPECT_NO_THROW(write_llmc(directory / "other.bin", stored(fake), "f32", nullptr));
    EXPECT_THROW(write_llmc(directory / "other.bin", stored(fake), "f16", nullptr), UsageError);
}

TEST_F(LlmcModel, a_failed_write_leaves_the_file_before) {
    const std::string before = written();
    StoredModel failing = stored(engine);
    failing.read = [](const TensorSpec& spec, std::span<float>) { KILN_CHECK(spec.name != "lnf_w", "gone"); };
    EXPECT_THROW(write_llmc(directory / "model.bin", failing, "f32", nullptr), Error);
    EXPECT_EQ(read_file(directory / "model.bin"), before);
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory.path()), {}), 1);
}

// The texts whose ids the fixtures have.
std::vector<std::string> texts() {
    std::vector<std::string> all = {"", " ", "It's 2024:  don't\n\n panic!\t", "\xF0\x9F\x98\x80\xE4\xB8\xAD",
                                    "\xFF\xFE\x80"};
    for (const char* name : {"english.txt", "code.txt", "mixed.txt"}) {
        all.push_back(slurp(tokenizer_fixture(name)).substr(0, 20000));
    }
    return all;
}

class LlmcTokenizer : public testing::TestWithParam<const char*> {};

// The merges come from the order of the ids alone.
TEST_P(LlmcTokenizer, ids_are_those_of_the_tokenizer_that_was_written) {
    const TempDirectory directory;
    const Tokenizer original = Tokenizer::load(tokenizer_fixture(GetParam()));
    const std::string file = write_llmc_tokenizer(original);
    EXPECT_EQ(value_at<int32_t>(file, 0), 20240328);
    EXPECT_EQ(value_at<int32_t>(file, 4), 2);
    EXPECT_EQ(value_at<int32_t>(file, 8), original.vocab_size());
    EXPECT_EQ(value_at<int32_t>(file, 12), original.end_of_text());
    const Tokenizer read = Tokenizer::load(directory.write("gpt2_tokenizer.bin", file));
    EXPECT_EQ(read.vocab_size(), original.vocab_size());
    EXPECT_EQ(read.end_of_text(), original.end_of_text());
    for (const std::string& text : texts()) {
        EXPECT_EQ(read.encode(text), original.encode(text)) << text.substr(0, 40);
        EXPECT_EQ(read.decode(original.encode(text)), text);
    }
    const std::string special = concat("a", original.token_bytes(original.end_of_text()), "b");
    EXPECT_EQ(read.encode(special, {.allow_special = true}), original.encode(special, {.allow_special = true}));
    EXPECT_EQ(write_llmc_tokenizer(read), file);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, LlmcTokenizer, testing::Values("english.json"));

TEST_F(LlmcModel, the_tokenizer_lies_beside_and_replaces_no_other) {
    FakeEngine fake(parse_model("gpt2:layers=1,dim=8,heads=2,vocab=1000,ctx=6"));
    const ModelFiles files(tokenizer_fixture("english.json"), {});
    write_llmc(directory / "model.bin", stored(fake, files), "f32", nullptr);
    const StoredModel read = open_llmc(directory / "model.bin");
    const std::string text = slurp(tokenizer_fixture("english.txt")).substr(0, 1000);
    ASSERT_FALSE(read.files.files.empty());
    EXPECT_EQ(Tokenizer::parse(read.files.files.front().content, "read").encode(text),
              Tokenizer::load(tokenizer_fixture("english.json")).encode(text));
    EXPECT_TRUE(read.files.token_ids.contains("eos_token_id"));
    directory.write("gpt2_tokenizer.bin", "mine");
    const std::string before = read_file(directory / "model.bin");
    EXPECT_NE(error_of([&] {
                  write_llmc(directory / "model.bin", stored(fake, files), "bf16", nullptr);
              }).find("is another tokenizer, which would be replaced"),
              std::string::npos);
    EXPECT_EQ(read_file(directory / "model.bin"), before);
}

}  // namespace
}  // namespace kiln
