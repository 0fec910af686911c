#include "tools/formats/llama2c.h"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <cstring>
#include <map>

#include "cpu_reference/interface/error.h"
#include "tests/support/sentencepiece_models.h"
#include "tests/support/stored_models.h"
#include "tests/support/temp_directory.h"
#include "tests/support/tokenizer_fixtures.h"
#include "tokenizer/formats/llama2c.h"
#include "tokenizer/sentencepiece/tokenizer.h"
#include "tools/formats/huggingface.h"
#include "tools/formats/json_file.h"

namespace kiln {
namespace {

const std::filesystem::path kFixtures = "tests/fixtures";
// C 12, F 10, L 2, NH 3, NKV 1, V 11, max_T 6, so HS 4; an LM head of its own.
constexpr const char* kModel = "llama:layers=2,dim=12,heads=3,kv_heads=1,ffn=10,vocab=11,ctx=6,tied=0";

class Llama2cFormat : public testing::Test {
protected:
    Llama2cFormat() { engine.fill(0); }  // each value is its offset in the arena
    std::string written(const char* type) {
        write_llama2c(directory / "model.bin", stored(engine), type, nullptr);
        return read_file(directory / "model.bin");
    }
    // The element of row `row` and column 0 of a tensor.
    float first_of(const char* name, size_t row = 0) const {
        for (const TensorSpec& spec : param_table(engine.config())) {
            if (spec.name == name) return float(spec.offset + row * spec.shape[1]);
        }
        ADD_FAILURE() << name;
        return -1;
    }
    void expect_header(const std::string& file, size_t byte, int32_t V) {
        const int32_t header[] = {12, 10, 2, 3, 1, V, 6};
        for (size_t i = 0; i < std::size(header); i++) EXPECT_EQ(value_at<int32_t>(file, byte + 4 * i), header[i]) << i;
    }
    TempDirectory directory;
    FakeEngine engine{parse_model(kModel)};
};

TEST_F(Llama2cFormat, version_0_is_where_run_c_reads_it) {
    const std::string file = written("f32");
    expect_header(file, 0, -11);
    // Elements before each tensor: of both layers, C = 12, q 12 x 12, k and v 4 x 12, F = 10.
    const std::tuple<size_t, float> places[] = {{0, first_of("wte")},
                                                {132, first_of("block.0.ln1_w")},
                                                {144, first_of("block.1.ln1_w")},
                                                {156, first_of("block.0.qkv_w")},
                                                {300, first_of("block.1.qkv_w")},
                                                {444, first_of("block.0.qkv_w", 12)},
                                                {492, first_of("block.1.qkv_w", 12)},
                                                {540, first_of("block.0.qkv_w", 16)},
                                                {588, first_of("block.1.qkv_w", 16)},
                                                {636, first_of("block.0.attn_out_w")},
                                                {780, first_of("block.1.attn_out_w")},
                                                {924, first_of("block.0.ln2_w")},
                                                {948, first_of("block.0.fc_w")},
                                                {1068, first_of("block.1.fc_w")},
                                                {1188, first_of("block.0.proj_w")},
                                                {1308, first_of("block.1.proj_w")},
                                                {1428, first_of("block.0.fc_w", 10)},
                                                {1548, first_of("block.1.fc_w", 10)},
                                                {1668, first_of("lnf_w")},
                                                {1680, 1},                      // cos of position 0, 6 x 2
                                                {1682, float(std::cos(1.0))},   // of position 1
                                                {1683, float(std::cos(0.01))},  // 10000^(-2 / 4)
                                                {1692, 0},                      // sin
                                                {1694, float(std::sin(1.0))},
                                                {1704, first_of("lm_head")}};
    EXPECT_EQ(file.size(), 28 + 4 * 1836u);
    for (const auto& [elems, value] : places) EXPECT_EQ(value_at<float>(file, 28 + 4 * elems), value) << elems;
    // Row 2 j + half of a head is row half * 2 + j of ours.
    const size_t ours[] = {0, 2, 1, 3};
    for (size_t head = 0; head < 3; head++) {
        for (size_t row = 0; row < 4; row++) {
            const float q = value_at<float>(file, 28 + 4 * (156 + (4 * head + row) * 12));
            EXPECT_EQ(q, first_of("block.0.qkv_w", 4 * head + ours[row])) << head << " " << row;
        }
    }
    for (size_t row = 0; row < 4; row++) {
        EXPECT_EQ(value_at<float>(file, 28 + 4 * (444 + row * 12)), first_of("block.0.qkv_w", 12 + ours[row]));
        EXPECT_EQ(value_at<float>(file, 28 + 4 * (540 + row * 12)), first_of("block.0.qkv_w", 16 + row)) << "v";
    }
}

TEST_F(Llama2cFormat, version_1_has_norms_first) {
    const std::string file = written("f32-v1");
    EXPECT_EQ(value_at<uint32_t>(file, 0), 0x616b3432u);
    EXPECT_EQ(value_at<int32_t>(file, 4), 1);
    expect_header(file, 8, 11);
    for (size_t byte = 36; byte < 256; byte++) EXPECT_EQ(file[byte], 0) << byte;
    const std::tuple<size_t, float> places[] = {{0, first_of("block.0.ln1_w")},
                                                {24, first_of("block.0.ln2_w")},
                                                {48, first_of("lnf_w")},
                                                {60, first_of("wte")},
                                                {192, first_of("block.0.qkv_w")},
                                                {480, first_of("block.0.qkv_w", 12)},
                                                {576, first_of("block.0.qkv_w", 16)},
                                                {672, first_of("block.0.attn_out_w")},
                                                {960, first_of("block.0.fc_w")},
                                                {1200, first_of("block.0.proj_w")},
                                                {1440, first_of("block.0.fc_w", 10)},
                                                {1680, first_of("lm_head")}};
    EXPECT_EQ(file.size(), 256 + 4 * 1812u);
    for (const auto& [elems, value] : places) EXPECT_EQ(value_at<float>(file, 256 + 4 * elems), value) << elems;
}

TEST_F(Llama2cFormat, tied_models_have_no_lm_head) {
    FakeEngine tied(parse_model("llama:layers=2,dim=12,heads=3,kv_heads=1,ffn=10,vocab=11,ctx=6,tied=1"));
    tied.fill(3);
    for (const char* type : {"f32", "f32-v1"}) {
        write_llama2c(directory / "model.bin", stored(tied), type, nullptr);
        const StoredModel read = open_llama2c(directory / "model.bin");
        EXPECT_TRUE(read.config == tied.config()) << describe(read.config);
        EXPECT_EQ(values_of(read), tied.arena(Arena::params));
    }
    EXPECT_EQ(read_file(directory / "model.bin")[36], 1);
    write_llama2c(directory / "model.bin", stored(tied), "f32", nullptr);
    EXPECT_EQ(value_at<int32_t>(read_file(directory / "model.bin"), 20), 11);
}

TEST_F(Llama2cFormat, float32_round_trips_bit_for_bit) {
    for (const char* type : {"f32", "f32-v1"}) {
        const std::string file = written(type);
        const StoredModel read = open_llama2c(directory / "model.bin");
        EXPECT_TRUE(read.config == engine.config()) << describe(read.config);
        EXPECT_EQ(values_of(read), engine.arena(Arena::params));
        write_llama2c(directory / "again.bin", read, type, nullptr);
        EXPECT_EQ(read_file(directory / "again.bin"), file);
    }
}

TEST_F(Llama2cFormat, int8_has_each_matrix_before_its_scales) {
    std::vector<float>& values = engine.arena(Arena::params);
    for (size_t i = 0; i < values.size(); i++) values[i] = std::sin(float(i * i));
    values[0] = 0, values[1] = 0;  // the first group: groups of 2 divide 12 and 10
    values[2] = -3, values[3] = 1;
    const std::string file = written("q8_0");
    EXPECT_EQ(value_at<int32_t>(file, 4), 2);
    EXPECT_EQ(value_at<int32_t>(file, 37), 2);
    const size_t wte = 256 + 4 * 60, scales = wte + 132;  // after the norms, in float32
    EXPECT_EQ(file[wte], 0);
    EXPECT_EQ(value_at<int8_t>(file, wte + 2), -127);
    EXPECT_EQ(value_at<int8_t>(file, wte + 3), 42);
    EXPECT_EQ(value_at<float>(file, scales), 0);
    EXPECT_EQ(value_at<float>(file, scales + 4), 3.0f / 127);
    const size_t q0 = scales + 4 * 66, q1 = q0 + 144 + 4 * 72, end = 256 + 4 * 60 + 3 * (1812 - 60);
    EXPECT_EQ(value_at<float>(file, q0 + 144) * float(value_at<int8_t>(file, q0)),
              values_of(open_llama2c(directory / "model.bin"))[size_t(first_of("block.0.qkv_w"))]);
    EXPECT_EQ(value_at<float>(file, q1 + 144) * float(value_at<int8_t>(file, q1)),
              values_of(open_llama2c(directory / "model.bin"))[size_t(first_of("block.1.qkv_w"))]);
    EXPECT_EQ(file.size(), end);

    const StoredModel read = open_llama2c(directory / "model.bin");
    EXPECT_EQ(read.dtype, "Q8_0");
    const std::vector<float> again = values_of(read);
    for (const TensorSpec& spec : param_table(engine.config())) {
        for (size_t i = spec.offset; i < spec.offset + spec.elems(); i++) {
            // Half a step of the group's scale; vectors are kept.
            EXPECT_NEAR(again[i], values[i], spec.decays() ? 0.5001f / 127 * (spec.name == "wte" ? 3 : 1) : 0)
                << spec.name;
        }
    }
}

TEST_F(Llama2cFormat, only_what_run_c_computes_is_written) {
    for (const char* other :
         {"llama:layers=1,dim=12,heads=3,vocab=11,theta=500000", "qwen2:layers=1,dim=12,heads=3,vocab=11",
          "llama:layers=1,dim=12,heads=3,vocab=11,eps=1e-6", "gpt2:layers=1,dim=12,heads=3,vocab=11",
          "llama:layers=1,dim=12,heads=3,head_size=8,vocab=11",
          "llama:layers=1,dim=12,heads=3,vocab=11,rope_factor=8,rope_original=8"}) {
        FakeEngine fake(parse_model(other));
        const std::string message =
            error_of([&] { write_llama2c(directory / "other.bin", stored(fake), "f32", nullptr); });
        EXPECT_NE(message.find("llama2.c's programs compute only Llama with a RoPE base (theta) of 10000"),
                  message.npos)
            << message;
        EXPECT_NE(message.find(describe(fake.config())), message.npos) << message;
    }
    EXPECT_THROW(write_llama2c(directory / "other.bin", stored(engine), "bf16", nullptr), UsageError);
    EXPECT_FALSE(std::filesystem::exists(directory / "other.bin"));
}

// Written by dev/fixtures/make_llmc_fixtures.py, without Kiln.
TEST(Llama2cFixture, has_the_weights_of_the_golden_model) {
    const std::filesystem::path golden = kFixtures / "golden/llama2";
    FakeEngine engine(parse_hf_config(read_json(golden / "config.json"), "config.json"));
    read_hf_weights(ModelTensors(golden), "llama", engine);
    const StoredModel read = open_llama2c(kFixtures / "llama2c/model.bin");
    EXPECT_EQ(values_of(read), engine.arena(Arena::params));
    const TempDirectory directory;
    write_llama2c(directory / "model.bin", stored(engine), "f32", nullptr);
    const std::string ours = read_file(directory / "model.bin"), theirs = read_file(kFixtures / "llama2c/model.bin");
    EXPECT_EQ(ours, theirs);
}

// ---- tokenizer.bin

TEST(Llama2cTokenizer, sentencepiece_round_trips_with_the_same_ids) {
    const TempDirectory directory;
    SentencePieceOptions options = kBytes;
    options["normalization_rule_name"] = "identity", options["remove_extra_whitespaces"] = "false";
    const Tokenizer original = make_sentencepiece_tokenizer(train_sentencepiece(options), "trained");
    const std::string file = write_llama2c_tokenizer(original, original.vocab_size());
    const Tokenizer read = Tokenizer::load(directory.write("tokenizer.bin", file));
    ASSERT_EQ(read.vocab_size(), original.vocab_size());
    for (const std::string& line : made_up_lines(100, 2)) EXPECT_EQ(read.encode(line), original.encode(line)) << line;
    for (const char* text : {"", " a  b ", "\n\t", "\xF0\x9F\x98\x80"})
        EXPECT_EQ(read.encode(text), original.encode(text));
    EXPECT_EQ(read.roles()[Role::eos]->id, 2);
    EXPECT_EQ(write_llama2c_tokenizer(read, read.vocab_size()), file);
}

TEST(Llama2cTokenizer, pieces_have_scores_lengths_and_spaces) {
    SentencePieceOptions options = kBytes;
    const Tokenizer original = make_sentencepiece_tokenizer(train_sentencepiece(options), "trained");
    const std::string file = write_llama2c_tokenizer(original, 810);  // ten more than it has
    size_t at = 4, longest = 0;
    for (int id = 0; id < 810; id++) {
        const auto score = value_at<float>(file, at);
        const auto length = size_t(value_at<int32_t>(file, at + 4));
        const std::string text = file.substr(at + 8, length);
        at += 8 + length;
        longest = std::max(longest, length);
        const std::map<int, std::string> special = {{0, "<unk>"},  {1, "\n<s>\n"},  {2, "\n</s>\n"},
                                                    {3, "<0x00>"}, {258, "<0xFF>"}, {805, "<unused805>"}};
        if (special.contains(id)) {
            EXPECT_EQ(text, special.at(id));
        } else if (id > 258 && id < 800) {
            EXPECT_EQ(text, original.token_bytes(id));
            EXPECT_LE(score, 0);
        }
    }
    EXPECT_EQ(at, file.size());
    EXPECT_EQ(size_t(value_at<int32_t>(file, 0)), longest);
}

TEST(Llama2cTokenizer, byte_level_tokens_have_scores_by_rank) {
    const TempDirectory directory;
    const Tokenizer original = Tokenizer::load(tokenizer_fixture("english.json"));
    const std::string file = write_llama2c_tokenizer(original, original.vocab_size());
    size_t at = 4;
    for (int id = 0; id < original.vocab_size(); id++) {
        const auto length = size_t(value_at<int32_t>(file, at + 4));
        EXPECT_EQ(file.substr(at + 8, length), original.token_bytes(id));
        EXPECT_EQ(value_at<float>(file, at), original.is_special(id) ? -FLT_MAX : float(-id));
        at += 8 + length;
    }
    EXPECT_EQ(at, file.size());
    const Tokenizer read = Tokenizer::load(directory.write("tokenizer.bin", file));
    const std::string text = slurp(tokenizer_fixture("english.txt")).substr(0, 5000);
    EXPECT_EQ(read.encode(text), original.encode(text));
    EXPECT_EQ(read.end_of_text(), original.end_of_text());
}

}  // namespace
}  // namespace kiln
