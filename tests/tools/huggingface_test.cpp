#include "tools/formats/huggingface.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "cpu_reference/interface/tensors.h"
#include "tests/support/fake_engine.h"
#include "tests/support/temp_directory.h"
#include "tools/formats/json_file.h"

namespace kiln {
namespace {

using nlohmann::json;

constexpr const char* kModels[] = {
    "gpt2:layers=2,dim=8,heads=2,vocab=11,ctx=6",
    "gpt2:layers=1,dim=8,heads=2,vocab=11,ctx=6,tied=0,ffn=12,eps=1e-6,dropout=0.1",
    "llama:layers=2,dim=12,heads=6,kv_heads=2,ffn=10,vocab=11,ctx=16,tied=0",
    "llama:layers=1,dim=8,heads=2,kv_heads=1,ffn=12,vocab=11,ctx=16,tied=1,rope_factor=8,rope_low=1,rope_high=4,"
    "rope_original=8,theta=500000",
    "llama:layers=1,dim=8,heads=2,head_size=6,ffn=12,vocab=11,ctx=16,qkv_bias=1,bias=1",
    "qwen2:layers=2,dim=8,heads=2,kv_heads=1,ffn=12,vocab=11,ctx=16,tied=1",
    "qwen3:layers=2,dim=8,heads=2,kv_heads=1,head_size=10,ffn=12,vocab=11,ctx=16,tied=0",
    // No family of theirs is like these.
    "gpt2:layers=1,dim=8,heads=2,vocab=11,ctx=6,norm=rmsnorm",
    "llama:layers=1,dim=8,heads=2,ffn=12,vocab=11,ctx=16,mlp=gelu,qk_norm=1",
    "gpt2:layers=1,dim=8,heads=2,vocab=11,ctx=6,position=rope",
    // Other scalings of RoPE.
    "llama:layers=1,dim=8,heads=2,ffn=12,vocab=11,ctx=16,rope_type=linear,rope_factor=2.5",
    "llama:layers=1,dim=8,heads=2,ffn=12,vocab=11,ctx=16,rope_type=yarn,rope_factor=4,rope_original=8",
    "llama:layers=1,dim=8,heads=2,ffn=12,vocab=11,ctx=16,rope_type=yarn,rope_factor=4.1,rope_original=9,"
    "rope_beta_fast=31.9,rope_beta_slow=1.1,rope_truncate=0,rope_attention=1.3",
};

class HfFormat : public testing::TestWithParam<const char*> {};

TEST_P(HfFormat, config_round_trips) {
    const ModelConfig config = parse_model(GetParam());
    const json written = json::parse(hf_config(config, {{"eos_token_id", 5}}).dump());
    EXPECT_EQ(describe(parse_hf_config(written, "config.json")), describe(config));
    EXPECT_TRUE(parse_hf_config(written, "config.json") == config);
}

TEST_P(HfFormat, config_without_the_descriptor_says_the_same) {
    ModelConfig config = parse_model(GetParam());
    json written = json::parse(hf_config(config, nullptr).dump());
    if (written["model_type"] == "kiln") return;
    written.erase("kiln");
    ModelConfig read = parse_hf_config(written, "config.json");
    if (config.family == "llama") read.dropout_embedding = config.dropout_embedding;
    EXPECT_EQ(describe(read), describe(config));
}

TEST_P(HfFormat, weights_round_trip_bit_for_bit) {
    const TempDirectory directory;
    const ModelConfig config = parse_model(GetParam());
    FakeEngine engine(config), copy(config);
    engine.fill(1);
    write_hf_weights(directory / "model.safetensors", engine);
    read_hf_weights(ModelTensors(directory.path()), hf_model_type(config), copy);
    EXPECT_EQ(copy.arena(Arena::params), engine.arena(Arena::params));
    // Import then export gives the same file.
    const TempDirectory other;
    write_hf_weights(other / "model.safetensors", copy);
    EXPECT_EQ(read_file(other / "model.safetensors"), read_file(directory / "model.safetensors"));
}

TEST_P(HfFormat, tensors_cover_the_arena_once) {
    const ModelConfig config = parse_model(GetParam());
    size_t next = 0;
    for (const HfTensor& tensor : hf_tensors(config, hf_model_type(config))) {
        EXPECT_EQ(tensor.offset, next) << tensor.name;
        next += tensor.rows * tensor.cols;
    }
    EXPECT_EQ(next, size_t(count_parameters(config)));
}

INSTANTIATE_TEST_SUITE_P(Models, HfFormat, testing::ValuesIn(kModels));

TEST(HfFormat, families_are_chosen_by_what_their_files_can_hold) {
    const char* expected[] = {"gpt2", "gpt2", "llama", "llama", "llama", "qwen2", "qwen3",
                              "kiln", "kiln", "kiln",  "llama", "llama", "llama"};
    for (size_t i = 0; i < std::size(kModels); i++) EXPECT_EQ(hf_model_type(parse_model(kModels[i])), expected[i]);
}

// One value by hand, so that writing and reading cannot be wrong the same way.
TEST(HfFormat, gpt2_matrices_are_stored_in_by_out) {
    const TempDirectory directory;
    const ModelConfig config = parse_model(kModels[0]);
    FakeEngine engine(config);
    engine.fill(0);
    write_hf_weights(directory / "model.safetensors", engine);
    const SafetensorsFile file(directory / "model.safetensors");
    const StoredTensor* stored = file.find("transformer.h.1.attn.c_attn.weight");
    ASSERT_NE(stored, nullptr);
    EXPECT_EQ(stored->shape, (std::vector<uint64_t>{8, 24}));  // (C, 3 C)
    std::vector<float> values(8 * 24);
    file.read(*stored, 0, values);
    for (const TensorSpec& spec : param_table(config)) {
        if (spec.name != "block.1.qkv_w") continue;
        for (int in = 0; in < 8; in++) {
            for (int out = 0; out < 24; out++) EXPECT_EQ(values[in * 24 + out], float(spec.offset + out * 8 + in));
        }
    }
}

TEST(HfFormat, llama_matrices_are_rows_of_ours) {
    const TempDirectory directory;
    const ModelConfig config = parse_model(kModels[2]);  // C 12, HS 2, NH 6, NKV 2, F 10
    FakeEngine engine(config);
    engine.fill(0);
    write_hf_weights(directory / "model.safetensors", engine);
    const SafetensorsFile file(directory / "model.safetensors");
    const auto first_of = [&](const char* name, std::vector<uint64_t> shape) {
        const StoredTensor* stored = file.find(name);
        EXPECT_NE(stored, nullptr) << name;
        if (!stored) return -1.0f;
        EXPECT_EQ(stored->shape, shape) << name;
        std::vector<float> value(1);
        file.read(*stored, 0, value);
        return value[0];
    };
    for (const TensorSpec& spec : param_table(config)) {
        const float start = float(spec.offset);
        if (spec.name == "block.0.qkv_w") {
            EXPECT_EQ(first_of("model.layers.0.self_attn.q_proj.weight", {12, 12}), start);
            EXPECT_EQ(first_of("model.layers.0.self_attn.k_proj.weight", {4, 12}), start + 12 * 12);
            EXPECT_EQ(first_of("model.layers.0.self_attn.v_proj.weight", {4, 12}), start + 16 * 12);
        } else if (spec.name == "block.1.fc_w") {
            EXPECT_EQ(first_of("model.layers.1.mlp.gate_proj.weight", {10, 12}), start);
            EXPECT_EQ(first_of("model.layers.1.mlp.up_proj.weight", {10, 12}), start + 120);
        } else if (spec.name == "lnf_w") {
            EXPECT_EQ(first_of("model.norm.weight", {12}), start);
        }
    }
}

// Writes the tensors of a model, changed by `edit`, as float32 ones; returns the message of reading them.
template <class Edit>
std::string error_after(const char* model, Edit edit) {
    const TempDirectory directory;
    const ModelConfig config = parse_model(model);
    std::vector<SafetensorsWriter::Declared> declared;
    for (const HfTensor& tensor : hf_tensors(config, hf_model_type(config))) {
        declared.push_back({tensor.name, tensor.shape});
    }
    edit(declared);
    size_t elems = 0;
    for (const auto& tensor : declared) {
        size_t n = 1;
        for (const uint64_t extent : tensor.shape) n *= extent;
        elems += n;
    }
    SafetensorsWriter writer(directory / "model.safetensors", declared);
    writer.append(std::vector<float>(elems, 1.0f));
    writer.finish();
    FakeEngine engine(config);
    return error_of([&] { read_hf_weights(ModelTensors(directory.path()), hf_model_type(config), engine); });
}

TEST(HfFormat, names_without_the_prefix_are_read) {
    for (const char* model : {kModels[0], kModels[5]}) {
        EXPECT_EQ(error_after(model,
                              [](auto& tensors) {
                                  for (auto& tensor : tensors) tensor.name.erase(0, tensor.name.find('.') + 1);
                              }),
                  "");
    }
}

TEST(HfFormat, buffers_are_ignored) {
    EXPECT_EQ(error_after(kModels[0],
                          [](auto& tensors) {
                              tensors.push_back({"transformer.h.0.attn.bias", {1, 1, 6, 6}});
                              tensors.push_back({"transformer.h.0.attn.masked_bias", {}});
                          }),
              "");
    EXPECT_EQ(error_after(kModels[2],
                          [](auto& t) {
                              t.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", {1}});
                          }),
              "");
}

TEST(HfFormat, tied_lm_head_is_accepted_if_it_equals_the_embeddings) {
    EXPECT_EQ(error_after(kModels[5], [](auto& tensors) { tensors.push_back({"lm_head.weight", {11, 8}}); }), "");
    EXPECT_NE(error_after(kModels[5],
                          [](auto& t) {
                              t.push_back({"lm_head.weight", {8, 11}});
                          })
                  .find("(8, 11)"),
              std::string::npos);

    const TempDirectory directory;
    FakeEngine engine(parse_model(kModels[5]));
    std::vector<SafetensorsWriter::Declared> declared;
    size_t elems = 0;
    for (const HfTensor& tensor : hf_tensors(engine.config(), "qwen2")) {
        declared.push_back({tensor.name, tensor.shape});
        elems += tensor.rows * tensor.cols;
    }
    declared.push_back({"lm_head.weight", {11, 8}});
    SafetensorsWriter writer(directory / "model.safetensors", declared);
    writer.append(std::vector<float>(elems, 1.0f));
    writer.append(std::vector<float>(88, 2.0f));
    writer.finish();
    EXPECT_NE(error_of([&] { read_hf_weights(ModelTensors(directory.path()), "qwen2", engine); }).find("differs"),
              std::string::npos);
}

TEST(HfFormat, missing_unexpected_and_misshapen_tensors_are_named) {
    const std::string missing = error_after(kModels[2], [](auto& tensors) { tensors.erase(tensors.begin() + 4); });
    EXPECT_NE(missing.find("model.layers.0.self_attn.v_proj.weight"), std::string::npos) << missing;
    const std::string extra = error_after(kModels[2], [](auto& t) { t.push_back({"model.extra", {1}}); });
    EXPECT_NE(extra.find("model.extra"), std::string::npos) << extra;
    const std::string shape = error_after(kModels[2], [](auto& tensors) { tensors[2].shape = {12, 11}; });
    EXPECT_NE(shape.find("'model.layers.0.self_attn.q_proj.weight' has shape (12, 11)"), std::string::npos) << shape;
}

TEST(HfFormat, weights_that_are_not_finite_are_refused_by_name) {
    for (const char* model : {"gpt2:layers=1,dim=8,heads=2,vocab=11,ctx=6", "llama:layers=1,dim=8,heads=2,vocab=11"}) {
        const TempDirectory directory;
        const ModelConfig config = parse_model(model);
        FakeEngine engine(config);
        engine.fill(1);
        // No writer writes NaN, so this number stands for it.
        const float mark = 1234.5f, nan = std::nanf("");
        for (const TensorSpec& spec : param_table(config)) {
            if (spec.name == "block.0.qkv_w") engine.write(Arena::params, spec.offset + 3, {&mark, 1});
        }
        const auto bytes_of = [](const float& x) { return std::string(reinterpret_cast<const char*>(&x), sizeof x); };
        write_hf_weights(directory / "model.safetensors", engine);
        std::string bytes = read_file(directory / "model.safetensors");
        bytes.replace(bytes.find(bytes_of(mark)), sizeof mark, bytes_of(nan));
        write_file_atomic(directory / "model.safetensors", bytes);
        try {
            read_hf_weights(ModelTensors(directory.path()), hf_model_type(config), engine);
            ADD_FAILURE() << model;
        } catch (const Error& error) {
            EXPECT_NE(std::string(error.what()).find("attn"), std::string::npos) << error.what();
            EXPECT_NE(std::string(error.what()).find("holds nan"), std::string::npos) << error.what();
        }
    }
}

// Bit for bit.
TEST(HfFormat, models_of_transformers_are_written_as_they_were_read) {
    int models = 0;
    for (const auto& entry : std::filesystem::directory_iterator("tests/fixtures/golden")) {
        const ModelConfig config = parse_hf_config(read_json(entry.path() / "config.json"), entry.path().string());
        FakeEngine engine(config);
        read_hf_weights(ModelTensors(entry.path()), hf_model_type(config), engine);
        const TempDirectory directory;
        write_hf_weights(directory / "model.safetensors", engine);
        const SafetensorsFile before(entry.path() / "model.safetensors"), after(directory / "model.safetensors");
        ASSERT_EQ(before.tensors().size(), after.tensors().size()) << entry.path();
        for (const StoredTensor& tensor : before.tensors()) {
            const StoredTensor* written = after.find(tensor.name);
            ASSERT_NE(written, nullptr) << entry.path() << " " << tensor.name;
            EXPECT_EQ(written->shape, tensor.shape);
            std::vector<float> a(tensor.elems()), b(tensor.elems());
            before.read(tensor, 0, a);
            after.read(*written, 0, b);
            EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0) << tensor.name;
        }
        models++;
    }
    EXPECT_EQ(models, 11);
}

json llama_config() {
    return json::parse(R"({"model_type":"llama","vocab_size":128256,"hidden_size":2048,"intermediate_size":8192,
        "num_hidden_layers":16,"num_attention_heads":32,"num_key_value_heads":8,"head_dim":64,"hidden_act":"silu",
        "max_position_embeddings":131072,"rms_norm_eps":1e-05,"tie_word_embeddings":true,"attention_bias":false})");
}

TEST(HfConfig, both_spellings_of_rope_are_read) {
    json v4 = llama_config(), v5 = llama_config();
    v4["rope_theta"] = 500000.0;
    v4["rope_scaling"] = json::parse(R"({"factor":32.0,"high_freq_factor":4.0,"low_freq_factor":1.0,
        "original_max_position_embeddings":8192,"rope_type":"llama3"})");
    v4["torch_dtype"] = "bfloat16";
    v5["rope_parameters"] = v4["rope_scaling"];
    v5["rope_parameters"]["rope_theta"] = 500000.0;
    v5["dtype"] = "bfloat16";
    EXPECT_TRUE(parse_hf_config(v4, "x") == parse_model("llama3.2-1b"));
    EXPECT_TRUE(parse_hf_config(v5, "x") == parse_model("llama3.2-1b"));
}

TEST(HfConfig, two_keys_for_rope_must_agree) {
    const json scaled = {{"rope_type", "llama3"},   {"factor", 4.0},         {"low_freq_factor", 1.0},
                         {"high_freq_factor", 4.0}, {"rope_theta", 10000.0}, {"original_max_position_embeddings", 32}};
    json wider = scaled;
    wider["factor"] = 8.0;
    const json plain = {{"rope_type", "default"}, {"rope_theta", 10000.0}};
    const auto error = [](const json& scaling, const json& parameters, const json& theta = nullptr) {
        json config = llama_config();
        config["rope_scaling"] = scaling, config["rope_parameters"] = parameters, config["rope_theta"] = theta;
        return error_of([&] { parse_hf_config(config, "x"); });
    };
    EXPECT_EQ(error(scaled, scaled, 10000.0), "");
    EXPECT_EQ(error(nullptr, scaled), "");
    for (const auto& [one, other] : {std::pair{scaled, plain}, {plain, scaled}, {scaled, wider}}) {
        EXPECT_NE(error(one, other).find("\"rope_scaling\" and \"rope_parameters\" describe different models"),
                  std::string::npos);
    }
    EXPECT_NE(error({{"rope_type", "dynamic"}, {"factor", 4.0}}, plain)
                  .find("\"rope_scaling\": \"rope_type\" is \"dynamic\""),
              std::string::npos);
    EXPECT_NE(error(nullptr, plain, 500000.0).find("\"rope_theta\" and \"rope_parameters\""), std::string::npos);
}

TEST(HfConfig, absent_keys_take_the_defaults_of_the_family) {
    const json gpt2 = json::parse(R"({"model_type":"gpt2","vocab_size":50257,"n_positions":1024,"n_embd":768,
        "n_layer":12,"n_head":12,"n_inner":null})");
    ModelConfig config = parse_hf_config(gpt2, "x");
    EXPECT_EQ(config.dropout_embedding, 0.1f);
    config.dropout_embedding = config.dropout_residual = config.dropout_attention = 0;
    EXPECT_TRUE(config == parse_model("gpt2"));
    json qwen3 = llama_config();
    qwen3["model_type"] = "qwen3";
    qwen3.erase("head_dim");
    EXPECT_EQ(parse_hf_config(qwen3, "x").HS, 128);
}

std::string error_with(const std::string& key, const json& value, const char* model_type = "llama") {
    json config = llama_config();
    config["model_type"] = model_type;
    config[key] = value;
    return error_of([&] { parse_hf_config(config, "the/config.json"); });
}

TEST(HfConfig, rope_scaling_is_checked) {
    const auto error = [](const json& scaling) { return error_with("rope_scaling", scaling); };
    const auto yarn = [](const std::string& key, const json& value) {
        json scaling = {{"rope_type", "yarn"}, {"factor", 4}, {"original_max_position_embeddings", 64}};
        scaling[key] = value;
        return error_with("rope_parameters", scaling);
    };
    std::vector<std::pair<std::string, std::string>> cases = {
        {error({{"type", "dynamic"}, {"factor", 2}}), "\"rope_type\" is \"dynamic\"; only"},
        {error({{"type", "longrope"}, {"factor", 2}}), "\"rope_type\" is \"longrope\"; only"},
        {error({{"rope_type", 3}}), "\"rope_type\" is 3; expected a string"},
        {error({{"type", "linear"}, {"factor", 2}, {"beta_fast", 16}}), "\"beta_fast\" is 16; this rope_type has no"},
        {error({{"type", "default"}, {"mrope_section", {2, 3}}}), "\"mrope_section\" is [2,3]"},
        {error({{"full_attention", {{"type", "linear"}, {"factor", 2}}}}), "\"full_attention\""},
        {error({{"type", "linear"}, {"factor", nullptr}}), "lacks \"factor\""},
        {yarn("factor", 1e300), "rope_factor is inf"},
        {yarn("beta_fast", 0), "\"beta_fast\" is 0; expected a number of at least 0.001"},
        {yarn("beta_fast", "32"), "\"beta_fast\" is \"32\"; expected a number"},
        {yarn("beta_slow", -1), "\"beta_slow\" is -1"},
        {yarn("beta_slow", 33), "rope_beta_slow is 33"},
        {yarn("attention_factor", 0), "\"attention_factor\" is 0"},
        {yarn("attention_factor", -1), "\"attention_factor\" is -1"},
        {yarn("mscale", NAN), "\"mscale\" is nan"},
        {yarn("truncate", 1), "\"truncate\" is 1; expected true or false"},
        {yarn("original_max_position_embeddings", 0), "rope_original is 0"},
        {yarn("original_max_position_embeddings", 64.5), "is 64.5; expected a whole number"},
        {yarn("long_factor", {1, 2}), "\"long_factor\""},
    };
    for (const char* type : {"linear", "llama3", "yarn"}) {
        cases.emplace_back(error({{"rope_type", type}}), "lacks \"factor\"");
        for (const auto& [factor, part] : {std::pair<json, const char*>{0.5, "\"factor\" is 0.5; expected a number of"},
                                           {0, "\"factor\" is 0; expected a number of at least 1"},
                                           {NAN, "\"factor\" is nan; expected a number of at least 1"},
                                           {"4", "\"factor\" is \"4\"; expected a number"}}) {
            cases.emplace_back(error({{"rope_type", type}, {"factor", factor}}), part);
        }
    }
    for (const auto& [message, part] : cases) {
        EXPECT_NE(message.find(part), std::string::npos) << "wanted " << part << " in: " << message;
        EXPECT_EQ(message.find("the/config.json"), 0u) << message;
    }
}

TEST(HfConfig, rope_scaling_agrees_with_the_descriptor) {
    // config.json lacks what has no effect, so the descriptor decides it.
    for (const char* unused : {"rope_type=linear,rope_factor=2,rope_low=2", "rope_type=yarn,rope_truncate=0"}) {
        const ModelConfig config = parse_model(std::string("llama:") + unused);
        EXPECT_TRUE(parse_hf_config(hf_config(config, nullptr), "x") == config) << unused;
    }
    json unscaled = hf_config(parse_model("llama:rope_factor=8"), nullptr);
    unscaled["rope_scaling"] = unscaled["rope_parameters"] = nullptr;
    EXPECT_NE(error_of([&] { parse_hf_config(unscaled, "x"); }).find("\"kiln\" key says"), std::string::npos);
}

TEST(HfConfig, keys_without_effect_are_ignored) {
    for (const json& off : {json(nullptr), json(false), json(0), json::object()}) {
        EXPECT_EQ(error_with("pruned_heads", off), "") << off;
    }
    EXPECT_EQ(error_with("logit_scale", 1.0), "");
    EXPECT_EQ(error_with("torchscript", true), "");
}

TEST(HfConfig, unsupported_choices_are_named) {
    const std::pair<std::string, std::string> cases[] = {
        {error_with("model_type", "mamba"), "\"mamba\""},
        {error_with("model_type", 3), "\"model_type\" is 3"},
        {error_with("hidden_act", "relu"), "\"relu\""},
        {error_with("attention_bias", true), "\"attention_bias\" is true"},
        {error_with("attention_bias", true, "qwen3"), "\"attention_bias\" is true"},
        {error_with("use_sliding_window", true, "qwen2"), "\"use_sliding_window\""},
        {error_with("layer_types", {"full_attention", "sliding_attention"}, "qwen2"), "\"sliding_attention\""},
        {error_with("rope_parameters", {{"rope_type", "llama3"}, {"rope_theta", 1e4}}), "lacks \"factor\""},
        {error_with("rope_parameters", {{"partial_rotary_factor", 0.5}}), "partial_rotary_factor"},
        {error_with("quantization_config", {{"bits", 4}}), "quantization_config"},
        {error_with("final_logit_softcapping", 30.0), "\"final_logit_softcapping\" is 30.0"},
        {error_with("pruned_heads", {{"0", {1}}}), "pruned_heads"},
        {error_with("num_experts", 8), "num_experts"},
        {error_with("residual_multiplier", 0.22), "residual_multiplier"},
        {error_with("partial_rotary_factor", 0.5), "partial_rotary_factor"},
        {error_with("hidden_size", "wide"), "\"hidden_size\" is \"wide\""},
        {error_with("hidden_size", 1.5), "\"hidden_size\" is 1.5"},
        {error_with("hidden_size", -8), "\"hidden_size\" is -8"},
        {error_with("hidden_size", 18446744073709551615u), "expected 0 to 2147483647"},
        {error_with("hidden_size", nullptr), "lacks \"hidden_size\""},
        {error_with("num_attention_heads", 0), "\"num_attention_heads\" is 0"},
        {error_with("num_key_value_heads", 5), "the/config.json"},
        {error_with("rms_norm_eps", "small"), "\"rms_norm_eps\""},
        {error_with("tie_word_embeddings", 1), "expected true or false"},
        {error_with("kiln", "llama:layers=3"), "\"kiln\" key says"},
        {error_with("kiln", "llama:layrs=3"), "layrs"},
    };
    for (const auto& [message, part] : cases) {
        EXPECT_NE(message.find(part), std::string::npos) << "wanted " << part << " in: " << message;
        EXPECT_EQ(message.find("the/config.json"), 0u) << message;
    }
    EXPECT_THROW(parse_hf_config(json::array(), "x"), Error);
}

TEST(JsonFile, hostile_text_is_an_error) {
    EXPECT_NE(error_of([] { parse_json("{\"a\":1,\"a\":2}", "x"); }).find("\"a\" twice"), std::string::npos);
    EXPECT_NE(error_of([] { parse_json(std::string(1000000, '['), "x"); }).find("deeper than 64"), std::string::npos);
    EXPECT_NE(error_of([] { parse_json("{\"a\":\"\xff\"}", "x"); }).find("not valid JSON at byte"), std::string::npos);
    EXPECT_NE(error_of([] { parse_json("", "x"); }).find("not valid JSON"), std::string::npos);
    EXPECT_EQ(parse_json("[{\"a\":1},{\"a\":2}]", "x").size(), 2u);
}

}  // namespace
}  // namespace kiln
