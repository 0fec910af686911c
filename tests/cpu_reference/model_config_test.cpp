#include "cpu_reference/interface/model_config.h"

#include <gtest/gtest.h>

#include "cpu_reference/interface/error.h"

using namespace kiln;

namespace {

// The message of the UsageError that parsing throws; empty if it throws none.
std::string message_of(const std::string& descriptor) {
    try {
        parse_model(descriptor);
    } catch (const UsageError& error) {
        return error.what();
    }
    return "";
}

void expect_message_has(const std::string& descriptor, const std::vector<std::string>& parts) {
    const std::string message = message_of(descriptor);
    EXPECT_NE(message, "") << descriptor << " was accepted";
    for (const std::string& part : parts) {
        EXPECT_NE(message.find(part), std::string::npos) << descriptor << ": no \"" << part << "\" in: " << message;
    }
}

}  // namespace

TEST(ModelConfig, preset_parameter_counts_are_the_published) {
    // OpenAI's GPT-2 and the model cards of the others, tied matrices counted once.
    const std::pair<const char*, int64_t> published[] = {
        {"gpt2", 124439808},         {"gpt2-medium", 354823168},     {"gpt2-large", 774030080},
        {"gpt2-xl", 1557611200},     {"tinyllama-1.1b", 1100048384}, {"llama3.2-1b", 1235814400},
        {"llama3.1-8b", 8030261248}, {"qwen2.5-0.5b", 494032768},    {"qwen3-0.6b", 596049920},
    };
    for (const auto& [name, count] : published) EXPECT_EQ(count_parameters(parse_model(name)), count) << name;
}

TEST(ModelConfig, presets_named_by_size_have_it) {
    EXPECT_NEAR(double(count_parameters(parse_model("gpt-13m"))), 13e6, 0.5e6);
    EXPECT_NEAR(double(count_parameters(parse_model("gpt-2b"))), 2e9, 0.05e9);
}

TEST(ModelConfig, llama_tiny_is_as_specified) {
    const ModelConfig c = parse_model("llama-tiny");
    EXPECT_EQ(c.C, 288);
    EXPECT_EQ(c.L, 8);
    EXPECT_EQ(c.NH, 8);
    EXPECT_EQ(c.NKV, 4);
    EXPECT_EQ(c.HS, 36);
    EXPECT_EQ(c.F, 768);  // 4 * 288 * 2 / 3, a multiple of 32 already
    EXPECT_EQ(c.max_T, 256);
    EXPECT_EQ(c.V, 4096);
    EXPECT_EQ(parse_model("llama:layers=8,dim=288,heads=8,kv_heads=4,ctx=256,vocab=4096"), c);
}

TEST(ModelConfig, every_preset_is_valid_and_survives_describe) {
    for (const std::string& name : preset_names()) {
        const ModelConfig c = parse_model(name);
        EXPECT_NO_THROW(validate(c)) << name;
        EXPECT_EQ(parse_model(describe(c)), c) << name << ": " << describe(c);
    }
}

TEST(ModelConfig, describe_keeps_every_field) {
    ModelConfig c = parse_model("qwen3");
    c.L = 3, c.C = 40, c.NH = 6, c.NKV = 3, c.HS = 10, c.F = 50, c.V = 99, c.max_T = 33;
    c.norm = Norm::layernorm, c.mlp = Mlp::gelu, c.position = Position::learned;
    c.qkv_bias = true, c.linear_bias = true, c.qk_norm = false, c.tied_embeddings = false;
    c.norm_eps = 3.3333e-6f, c.rope_theta = 12345.678f;
    c.rope_scaling = {RopeType::yarn, 8.1f, 1.5f, 4.25f, 100, 33, 1.25f, false, 1.1f};
    c.dropout_embedding = 0.1f, c.dropout_residual = 0.2f, c.dropout_attention = 0.3f, c.init_std = 0.012f;
    EXPECT_EQ(parse_model(describe(c)), c) << describe(c);
}

TEST(ModelConfig, llmc_depths_give_its_widths) {
    EXPECT_EQ(parse_model("d12"), parse_model("gpt2"));
    EXPECT_EQ(parse_model("gpt2:d24"), parse_model("gpt2-medium"));
    EXPECT_EQ(parse_model("d36"), parse_model("gpt2-large"));
    EXPECT_EQ(parse_model("gpt2:d48"), parse_model("gpt2-xl"));
    const ModelConfig c = parse_model("gpt2:d12,ctx=256");
    EXPECT_EQ(c.max_T, 256);
    EXPECT_EQ(c.C, 768);
}

TEST(ModelConfig, what_is_not_given_follows) {
    ModelConfig c = parse_model("gpt2:dim=128");
    EXPECT_EQ(c.F, 512);
    EXPECT_EQ(c.HS, 64);
    EXPECT_EQ(c.NH, 2);
    EXPECT_EQ(c.NKV, 2);
    c = parse_model("gpt2:dim=128,heads=8");
    EXPECT_EQ(c.HS, 16);
    EXPECT_EQ(c.NKV, 8);
    c = parse_model("llama3.2-1b:dim=512,heads=8");
    EXPECT_EQ(c.NKV, 2);  // four to one, as in the base
    c = parse_model("llama:dim=100,heads=5,multiple_of=64");
    EXPECT_EQ(c.F, 320);  // 4 * 100 * 2 / 3 = 266
    c = parse_model("qwen3:dim=96,heads=3,kv_heads=1");
    EXPECT_EQ(c.HS, 128);
    c = parse_model("llama:dropout=0.1,dropout_attention=0");
    EXPECT_EQ(c.dropout_residual, 0.1f);
    EXPECT_EQ(c.dropout_attention, 0.0f);
}

TEST(ModelConfig, unknown_names_suggest_the_nearest) {
    expect_message_has("gpt2-medum", {"gpt2-medum", "did you mean \"gpt2-medium\""});
    expect_message_has("lama:dim=64", {"did you mean \"llama\""});
    expect_message_has("llama:layer=2", {"\"layer\"", "did you mean \"layers\""});
    expect_message_has("gpt2:d13", {"d13"});
    expect_message_has("", {"did you mean"});
}

TEST(ModelConfig, bad_values_name_key_text_and_range) {
    expect_message_has("llama:dim=abc", {"dim=abc", "from 1 to"});
    expect_message_has("llama:dim=12x", {"dim=12x"});
    expect_message_has("llama:layers=0", {"layers=0", "from 1 to 2047"});
    expect_message_has("llama:layers=99999999999999999999", {"layers=99999999999999999999"});
    expect_message_has("llama:dropout=1", {"dropout=1"});
    expect_message_has("llama:dropout=nan", {"dropout=nan"});
    expect_message_has("llama:tied=maybe", {"tied=maybe", "true or false"});
    expect_message_has("llama:norm=batch", {"norm=batch", "layernorm or rmsnorm"});
    expect_message_has("llama:dim", {"key=value"});
    expect_message_has("llama:", {"after the colon"});
    expect_message_has("llama:dim=64,dim=65", {"dim", "twice"});
    expect_message_has("llama:dim=64,heads=2,ffn=8,multiple_of=8", {"exclude"});
}

TEST(ModelConfig, misfits_are_named) {
    expect_message_has("llama:dim=100,heads=3", {"dim=100", "heads=3"});
    expect_message_has("llama:dim=64,heads=4,kv_heads=3", {"heads=4", "kv_heads=3"});
    expect_message_has("llama:dim=27,heads=3", {"head_size=9", "odd"});
    expect_message_has("llama:rope_factor=8,rope_low=4,rope_high=4", {"rope_high=4", "rope_low=4"});
    expect_message_has("llama:rope_factor=0.5", {"rope_factor is 0.5", "[1, "});
    expect_message_has("llama:rope_type=ntk", {"rope_type=ntk", "llama3 or linear or yarn"});
    expect_message_has("llama:rope_type=yarn,rope_factor=8,theta=1", {"theta with rope_type=yarn is 1"});
    expect_message_has("llama:rope_type=yarn,rope_factor=8,rope_beta_slow=33", {"rope_beta_slow is 33", ", 32]"});
    expect_message_has("llama:rope_type=yarn,rope_factor=8,rope_attention=1e-4", {"rope_attention is 0.0001"});
    ModelConfig c;
    c.family = "bert";
    EXPECT_THROW(validate(c), UsageError);
}

TEST(ModelConfig, flops_count_matmuls_only) {
    // GPT-2: 6 (N - wpe) + 6 L C T.
    EXPECT_EQ(flops_per_token(parse_model("gpt2"), 64), 6 * (124439808LL - 1024 * 768) + 6LL * 12 * 768 * 64);
    // An untied wte needs no matmul, but the LM head does.
    const ModelConfig c = parse_model("tinyllama-1.1b");
    EXPECT_EQ(flops_per_token(c, 2048), 6 * (1100048384LL - 32000LL * 2048) + 6LL * 22 * 2048 * 2048);
}
