#include "tools/formats/gguf.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "cpu_reference/interface/error.h"
#include "tests/support/sentencepiece_models.h"
#include "tests/support/temp_directory.h"
#include "tests/support/tokenizer_fixtures.h"
#include "tokenizer/huggingface/parts.h"
#include "tokenizer/sentencepiece/tokenizer.h"
#include "tools/commands/commands.h"
#include "tools/formats/gguf_file.h"
#include "tools/formats/huggingface_model.h"

namespace kiln {
namespace {

// Different at every element, without a pattern that a wrong order could hide behind.
float value_at(size_t element) {
    return float(std::sin(double(element) * 0.7 + 1));
}

StoredModel model_of(const std::string& descriptor, ModelFiles files = {}) {
    return {parse_model(descriptor), std::move(files), "F32", [](const TensorSpec& spec, std::span<float> out) {
                for (size_t i = 0; i < out.size(); i++) out[i] = value_at(spec.offset + i);
            }};
}

std::vector<float> read_all(const StoredModel& model) {
    std::vector<float> all;
    for (const TensorSpec& spec : param_table(model.config)) {
        std::vector<float> values(spec.elems());
        model.read(spec, values);
        all.insert(all.end(), values.begin(), values.end());
    }
    return all;
}

std::vector<float> rows_of(const GgufFile& file, const std::string& name) {
    const GgufTensor* tensor = file.find(name);
    if (!tensor) return {};
    std::vector<float> values(tensor->elems());
    file.read_rows(*tensor, 0, values);
    return values;
}

constexpr const char* kModels[] = {
    "gpt2:layers=2,dim=24,heads=3,vocab=37,ctx=16",
    "gpt2:layers=1,dim=20,heads=2,ffn=28,vocab=50,ctx=16,tied=0,dropout=0.1,init_std=0.3",
    "llama:layers=2,dim=24,heads=6,kv_heads=2,ffn=20,vocab=37,ctx=16,tied=0",
    "llama:layers=1,dim=24,heads=4,kv_heads=1,head_size=10,ffn=20,vocab=41,ctx=16,rope_factor=8,rope_original=64",
    "llama:layers=1,dim=16,heads=2,ffn=12,vocab=11,ctx=16,qkv_bias=1,bias=1",
    "llama:layers=1,dim=16,heads=2,ffn=12,vocab=11,ctx=16,rope_type=linear,rope_factor=2.5",
    "llama:layers=1,dim=16,heads=2,ffn=12,vocab=11,ctx=16,rope_type=yarn,rope_factor=4,rope_original=8,"
    "rope_attention=1.3",
    "qwen2:layers=2,dim=24,heads=4,kv_heads=2,ffn=20,vocab=37,ctx=16",
    "qwen3:layers=2,dim=24,heads=3,kv_heads=1,head_size=14,ffn=20,vocab=37,ctx=16,tied=0",
};

class GgufModels : public testing::TestWithParam<const char*> {};

TEST_P(GgufModels, written_and_read_is_the_same_bit_for_bit) {
    const TempDirectory directory;
    const StoredModel model = model_of(GetParam());
    uint64_t done = 0, all = 0;
    write_gguf(directory / "a.gguf", model, "f32", [&](uint64_t d, uint64_t a) { done = d, all = a; });
    EXPECT_GT(all, 0u);
    EXPECT_EQ(done, all);
    const StoredModel read = open_gguf(directory / "a.gguf");
    EXPECT_EQ(describe(read.config), describe(model.config));
    EXPECT_TRUE(read.config == model.config);
    EXPECT_EQ(read.dtype, "F32");
    EXPECT_EQ(read_all(read), read_all(model));
}

TEST_P(GgufModels, each_type_keeps_what_it_can) {
    const struct {
        const char* type;
        float error;  // of values up to 1
    } types[] = {{"f16", 0x1p-12f}, {"bf16", 0x1p-9f}};
    const StoredModel model = model_of(GetParam());
    const std::vector<float> exact = read_all(model);
    const TempDirectory directory;
    for (const auto& type : types) {
        write_gguf(directory / "a.gguf", model, type.type, nullptr);
        const StoredModel read = open_gguf(directory / "a.gguf");
        const std::vector<float> values = read_all(read);
        for (const TensorSpec& spec : param_table(model.config)) {
            const bool kept = spec.group == ParamGroup::vector || spec.name == "wpe";
            for (size_t i = spec.offset; i < spec.offset + spec.elems(); i++) {
                ASSERT_NEAR(values[i], exact[i], kept ? 0 : type.error) << spec.name;
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(, GgufModels, testing::ValuesIn(kModels));

TEST(Gguf, rows_of_q_and_k_are_interleaved_for_llama_alone) {
    const TempDirectory directory;
    for (const std::string family : {"llama", "qwen2"}) {
        const StoredModel model = model_of(family + ":layers=1,dim=16,heads=2,kv_heads=1,ffn=12,vocab=11,ctx=16");
        write_gguf(directory / "a.gguf", model, "", nullptr);
        const GgufFile file(directory / "a.gguf");
        const size_t HS = 8, C = 16, qkv = param_table(model.config)[2].offset;
        ASSERT_EQ(param_table(model.config)[2].name, "block.0.qkv_w");
        const std::vector<float> q = rows_of(file, "blk.0.attn_q.weight"), k = rows_of(file, "blk.0.attn_k.weight");
        const std::vector<float> v = rows_of(file, "blk.0.attn_v.weight");
        for (size_t r = 0; r < 2 * HS; r++) {
            // Rows i and i + HS/2 of a head are neighbours in the file.
            const size_t i = r % HS / 2 + r % 2 * (HS / 2), row = family == "llama" ? r / HS * HS + i : r;
            EXPECT_EQ(q[r * C], value_at(qkv + row * C)) << r;
            if (r >= HS) continue;
            EXPECT_EQ(k[r * C], value_at(qkv + (2 * HS + row) * C)) << r;
            EXPECT_EQ(v[r * C], value_at(qkv + (3 * HS + r) * C)) << r;
        }
    }
}

TEST(Gguf, keys_and_tensors_are_those_of_the_architecture) {
    const TempDirectory directory;
    write_gguf(directory / "a.gguf",
               model_of("llama:layers=1,dim=24,heads=4,kv_heads=1,head_size=10,ffn=20,vocab=41,ctx=16,rope_factor=8,"
                        "rope_original=64,theta=100"),
               "f16", nullptr);
    const GgufFile file(directory / "a.gguf");
    EXPECT_EQ(file.string("general.architecture"), "llama");
    EXPECT_EQ(file.whole("general.file_type", 99), 1u);
    EXPECT_EQ(file.whole("llama.attention.key_length", 99), 10u);
    EXPECT_EQ(file.whole("llama.attention.value_length", 99), 10u);
    EXPECT_EQ(file.whole("llama.attention.head_count_kv", 99), 1u);
    EXPECT_EQ(file.real("llama.rope.freq_base"), 100);
    EXPECT_FALSE(file.has("llama.rope.scaling.type"));
    EXPECT_EQ(file.find("output.weight"), nullptr) << "tied to the embeddings";
    EXPECT_EQ(file.find("blk.0.attn_norm.weight")->type->name, "F32");
    EXPECT_EQ(file.find("blk.0.attn_q.weight")->type->name, "F16");
    const std::vector<float> factors = rows_of(file, "rope_freqs.weight");
    ASSERT_EQ(factors.size(), 5u);
    EXPECT_EQ(factors[1], 1);  // rotates 4.05 times in the original context of 64, and 4 are enough
    EXPECT_GT(factors[2], 1);  // 1.6 times
    EXPECT_LT(factors[2], 8);
    EXPECT_EQ(factors[3], 8);  // 0.6 times
    for (const GgufTensor& tensor : file.tensors()) EXPECT_EQ(tensor.offset % 32, 0u) << tensor.name;
}

TEST(Gguf, matrices_with_rows_that_blocks_do_not_fill_get_a_finer_type) {
    const TempDirectory directory;
    // Rows of 256 and of 96 or 40.
    write_gguf(directory / "a.gguf", model_of("llama:layers=1,dim=256,heads=4,ffn=96,vocab=11,ctx=16"), "q4_k",
               nullptr);
    EXPECT_EQ(GgufFile(directory / "a.gguf").find("blk.0.attn_q.weight")->type->name, "Q4_K");
    EXPECT_EQ(GgufFile(directory / "a.gguf").find("blk.0.ffn_down.weight")->type->name, "Q8_0");
    write_gguf(directory / "a.gguf", model_of("llama:layers=1,dim=256,heads=4,ffn=40,vocab=11,ctx=16"), "q4_0",
               nullptr);
    EXPECT_EQ(GgufFile(directory / "a.gguf").find("blk.0.attn_q.weight")->type->name, "Q4_0");
    EXPECT_EQ(GgufFile(directory / "a.gguf").find("blk.0.ffn_down.weight")->type->name, "F16");
}

TEST(Gguf, what_it_cannot_hold_is_refused) {
    const TempDirectory directory;
    const auto error = [&](const std::string& descriptor, const char* type = "f32") {
        const std::string message =
            error_of([&] { write_gguf(directory / "a.gguf", model_of(descriptor), type, nullptr); });
        EXPECT_FALSE(std::filesystem::exists(directory / "a.gguf"));
        return message;
    };
    EXPECT_NE(error("gpt2:layers=1,dim=8,heads=2,vocab=11,ctx=6,norm=rmsnorm").find("none of gpt2, llama"),
              std::string::npos);
    EXPECT_NE(error("gpt2:layers=1,dim=8,heads=2,head_size=6,vocab=11,ctx=6").find(", which GGUF cannot describe"),
              std::string::npos);
    EXPECT_NE(error("qwen2:layers=1,dim=8,heads=2,ffn=12,vocab=11,ctx=16,rope_factor=8,rope_original=8")
                  .find("the RoPE scaling of Llama 3 in another family"),
              std::string::npos);
    StoredModel large = model_of("gpt2:layers=1,dim=8,heads=2,vocab=11,ctx=6");
    large.read = [](const TensorSpec&, std::span<float> out) { std::ranges::fill(out, 70000.0f); };
    EXPECT_NE(error_of([&] {
                  write_gguf(directory / "a.gguf", large, "f16", nullptr);
              }).find("tensor 'token_embd.weight' holds 70000, which F16 cannot hold"),
              std::string::npos);
    EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

// Between the bytes that a test tries, or all of them.
size_t step() {
    return std::getenv("KILN_LONG") ? 1 : 29;
}

// dev/fixtures/make_gguf_fixtures.py wrote the files with gguf's own writer.
TEST(Gguf, files_of_another_writer_have_the_weights_of_the_golden_models) {
    const struct {
        const char* name;
        float error;  // relative to the largest value near by
    } files[] = {{"gpt2", 0x1p-11f}, {"llama3", 0}, {"qwen2_untied", 0.57f / 127}, {"qwen3", 0x1p-8f}};
    for (const auto& row : files) {
        const StoredModel golden = open_hf(concat("tests/fixtures/golden/", row.name));
        const StoredModel model = open_gguf(concat("tests/fixtures/gguf/", row.name, ".gguf"));
        ModelConfig config = model.config;
        config.init_std = golden.config.init_std;
        config.dropout_embedding = golden.config.dropout_embedding;
        config.dropout_residual = golden.config.dropout_residual;
        config.dropout_attention = golden.config.dropout_attention;
        EXPECT_EQ(describe(config), describe(golden.config));
        const std::vector<float> exact = read_all(golden), values = read_all(model);
        ASSERT_EQ(values.size(), exact.size());
        for (const TensorSpec& spec : param_table(config)) {
            const auto first = exact.begin() + ptrdiff_t(spec.offset);
            const bool kept = spec.group == ParamGroup::vector || spec.name == "wpe";
            const float largest = std::fabs(*std::max_element(
                first, first + ptrdiff_t(spec.elems()), [](float a, float b) { return std::fabs(a) < std::fabs(b); }));
            for (size_t i = spec.offset; i < spec.offset + spec.elems(); i++) {
                ASSERT_NEAR(values[i], exact[i], kept ? 0 : row.error * largest) << row.name << " " << spec.name;
            }
        }
    }
}

TEST(Gguf, every_truncation_is_an_error) {
    const TempDirectory directory;
    write_gguf(directory / "a.gguf", model_of(kModels[2]), "f16", nullptr);
    const std::string whole = read_file(directory / "a.gguf");
    for (size_t bytes = 0; bytes < whole.size() - 32; bytes += step()) {
        std::filesystem::remove(directory / "b.gguf");  // writing over a file waits for the disk
        directory.write("b.gguf", whole.substr(0, bytes));
        EXPECT_NE(error_of([&] { open_gguf(directory / "b.gguf"); }), "") << bytes;
    }
}

TEST(Gguf, every_flipped_byte_before_the_data_is_read_or_refused) {
    const TempDirectory directory;
    write_gguf(directory / "a.gguf", model_of(kModels[3]), "", nullptr);
    const std::string whole = read_file(directory / "a.gguf");
    for (size_t at = 0; at < 3000; at += step()) {
        std::string flipped = whole;
        flipped[at] = static_cast<char>(flipped[at] ^ (1 << at % 8));
        std::filesystem::remove(directory / "b.gguf");
        directory.write("b.gguf", flipped);
        try {
            read_all(open_gguf(directory / "b.gguf"));
        } catch (const Error& error) {
            EXPECT_TRUE(std::string(error.what()).starts_with((directory / "b.gguf").string())) << error.what();
        }
    }
}

TEST(Gguf, exported_and_imported_by_the_commands_is_the_same_model) {
    const TempDirectory directory;
    const std::string golden = "tests/fixtures/golden/llama3", file = directory / "a.gguf", copy = directory / "copy";
    ASSERT_EQ(command_export({"--model", golden, "--to", "gguf", "--output", file, "--type", "f32"}), 0);
    ASSERT_EQ(command_import({"--from", "gguf", "--input", file, "--output", copy}), 0);
    EXPECT_EQ(describe(open_hf(copy).config), describe(open_hf(golden).config));
    EXPECT_EQ(read_all(open_hf(copy)), read_all(open_hf(golden)));
    EXPECT_NE(error_of([&] {
                  command_export({"--model", golden, "--to", "gguf", "--output", file, "--type", "q9"});
              }).find("f32, f16, bf16, q8_0, q4_0, q4_k"),
              std::string::npos);
    EXPECT_NE(error_of([&] {
                  command_export({"--model", golden, "--to", "gguf", "--output", file});
              }).find("--overwrite"),
              std::string::npos);
}

// ---- tokenizers

ModelFiles files_of(const Tokenizer& tokenizer) {
    ModelFiles files;
    files.files = tokenizer.kind().files();
    return files;
}

void expect_same_tokenizer(const Tokenizer& a, const Tokenizer& b) {
    EXPECT_EQ(a.vocab_size(), b.vocab_size());
    for (const std::string text : {"Hello world, it's 12345  two spaces\n\n and \u6f22\u5b57 \U0001F600!",
                                   "<|endoftext|>a", " etaoin shrdlu\t", "<s>the </s>"}) {
        for (const bool special : {false, true}) {
            EXPECT_EQ(a.encode(text, {.allow_special = special}), b.encode(text, {.allow_special = special})) << text;
        }
    }
    for (const Role role : {Role::bos, Role::eos, Role::unk, Role::pad}) {
        const auto id = [&](const Tokenizer& t) { return t.roles()[role] ? t.roles()[role]->id : -1; };
        EXPECT_EQ(id(a), id(b));
    }
}

TEST(GgufTokenizer, byte_level_bpe_comes_back) {
    const struct {
        PreTokenizerKind kind;
        const char* name;
    } rows[] = {{PreTokenizerKind::kGpt2, "gpt-2"},
                {PreTokenizerKind::kLlama3, "llama-bpe"},
                {PreTokenizerKind::kQwen2, "qwen2"}};
    const TempDirectory directory;
    for (const auto& row : rows) {
        TokenizerParts parts = parse_tokenizer_json(slurp(tokenizer_fixture("parity.json")), "parity.json");
        const bool llama = row.kind == PreTokenizerKind::kLlama3;
        const TokenizerParts plain = TokenizerParts::byte_level(
            NormalizerKind::kNone, PreTokenizerSequence::byte_level(PreTokenizer(row.kind), false));
        parts.pre_tokenizer = plain.pre_tokenizer, parts.pre_tokenizer_json = plain.pre_tokenizer_json;
        parts.vocabulary.ignore_merges = llama;
        const int end = int(parts.vocabulary.tokens.size());
        parts.vocabulary.tokens.emplace_back("<|endoftext|>");
        parts.is_text.push_back(false);
        parts.added.push_back({.id = end, .content = "<|endoftext|>", .special = true});
        if (llama) {
            parts.post_processor = {{"type", "TemplateProcessing"},
                                    {"single", {{{"SpecialToken", {{"id", "<|endoftext|>"}, {"type_id", 0}}}}}}};
        }
        const Tokenizer tokenizer = make_tokenizer(parts, "parity.json");
        ModelFiles files = files_of(tokenizer);
        files.files.push_back({"chat_template.jinja", "{{ messages }}"});
        const int V = end + 3;  // two ids have no token
        const auto path = directory / "a.gguf";
        write_gguf(path, model_of(concat("qwen2:layers=1,dim=8,heads=2,ffn=12,ctx=16,vocab=", V), files), "", nullptr);
        const GgufFile file(path);
        EXPECT_EQ(file.string("tokenizer.ggml.model"), "gpt2");
        EXPECT_EQ(file.string("tokenizer.ggml.pre"), row.name);
        EXPECT_EQ(file.whole("tokenizer.ggml.eos_token_id", 99999), uint64_t(end));
        EXPECT_EQ(file.boolean("tokenizer.ggml.add_bos_token"), llama);
        EXPECT_EQ(file.whole_array("tokenizer.ggml.token_type")[end], 3);
        EXPECT_EQ(file.whole_array("tokenizer.ggml.token_type")[end + 2], 5);
        EXPECT_EQ(file.string("tokenizer.chat_template"), "{{ messages }}");
        const StoredModel read = open_gguf(path);
        const TempDirectory copy;
        for (const auto& saved : read.files.files) copy.write(saved.name, saved.content);
        expect_same_tokenizer(Tokenizer::load(copy.path()), tokenizer);
        EXPECT_EQ(slurp(copy / "chat_template.jinja"), "{{ messages }}");
        EXPECT_EQ(read.files.token_ids["eos_token_id"], end);
        // What was imported is exported as the same file.
        write_gguf(directory / "b.gguf", read, "", nullptr);
        EXPECT_EQ(read_file(directory / "b.gguf"), read_file(path));
    }
}

TEST(GgufTokenizer, sentencepiece_bpe_comes_back) {
    SentencePieceOptions options = kBytes;
    options["normalization_rule_name"] = "identity";
    options["remove_extra_whitespaces"] = "false";
    const Tokenizer tokenizer = make_sentencepiece_tokenizer(train_sentencepiece(options), "tokenizer.model");
    const TempDirectory directory;
    const auto path = directory / "a.gguf";
    write_gguf(path, model_of("llama:layers=1,dim=8,heads=2,ffn=12,ctx=16,vocab=803", files_of(tokenizer)), "",
               nullptr);
    const GgufFile file(path);
    EXPECT_EQ(file.string("tokenizer.ggml.model"), "llama");
    EXPECT_EQ(file.real_array("tokenizer.ggml.scores").size(), 803u);
    EXPECT_EQ(file.whole_array("tokenizer.ggml.token_type")[0], 2);
    EXPECT_EQ(file.whole_array("tokenizer.ggml.token_type")[3], 6);
    const StoredModel read = open_gguf(path);
    const TempDirectory copy;
    for (const auto& saved : read.files.files) copy.write(saved.name, saved.content);
    expect_same_tokenizer(Tokenizer::load(copy.path()), tokenizer);
    write_gguf(directory / "b.gguf", read, "", nullptr);
    EXPECT_EQ(read_file(directory / "b.gguf"), read_file(path));
}

TEST(GgufTokenizer, what_gguf_cannot_say_is_refused) {
    const TempDirectory directory;
    const auto error = [&](const Tokenizer& tokenizer, int V) {
        const StoredModel model =
            model_of(concat("llama:layers=1,dim=8,heads=2,ffn=12,ctx=16,vocab=", V), files_of(tokenizer));
        return error_of([&] { write_gguf(directory / "a.gguf", model, "", nullptr); });
    };
    const Tokenizer characters = Tokenizer::load(tokenizer_fixture("characters.json"));
    EXPECT_NE(error(characters, 9999).find("has characters as tokens"), std::string::npos);
    const Tokenizer unigram = make_sentencepiece_tokenizer(train_sentencepiece({{"model_type", "unigram"}}), "m");
    EXPECT_NE(error(unigram, 500).find("can only hold SentencePiece models of the type bpe"), std::string::npos);
    const Tokenizer english = Tokenizer::load(tokenizer_fixture("english.json"));
    EXPECT_NE(error(english, 99).find("it belongs to another model"), std::string::npos);
}

}  // namespace
}  // namespace kiln
