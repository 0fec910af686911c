// config.json of Hugging Face models, both ways.
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "cpu_reference/interface/error.h"
#include "tools/formats/huggingface.h"

namespace kiln {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

// The shortest decimal that reads back as this float: 1e-05, not 9.999999747378752e-06.
double shortest(float value) {
    char text[32];
    *std::to_chars(text, text + sizeof(text) - 1, value).ptr = '\0';
    return std::strtod(text, nullptr);
}

// Reads keys of config.json; a null counts as absent, as it does in transformers.
class Keys {
public:
    Keys(const json& object, const std::string& where) : object_(object), where_(where) {
        KILN_CHECK(object.is_object(), where, ": is not a JSON object");
    }

    const json* find(const char* key) const {
        const auto found = object_.find(key);
        return found == object_.end() || found->is_null() ? nullptr : &*found;
    }
    int integer(const char* key, std::optional<int> fallback = std::nullopt) const {
        const json* value = find(key);
        if (!value && fallback) return *fallback;
        KILN_CHECK(value, where_, ": lacks \"", key, "\"");
        KILN_CHECK(value->is_number_integer(), where_, ": \"", key, "\" is ", value->dump(),
                   "; expected a whole number");
        const int64_t number =
            value->is_number_unsigned() && value->get<uint64_t>() > INT32_MAX ? INT64_MAX : value->get<int64_t>();
        KILN_CHECK(number >= 0 && number <= INT32_MAX, where_, ": \"", key, "\" is ", value->dump(), "; expected 0 to ",
                   INT32_MAX);
        return int(number);
    }
    float number(const char* key, std::optional<float> fallback = std::nullopt) const {
        const json* value = find(key);
        if (!value && fallback) return *fallback;
        KILN_CHECK(value, where_, ": lacks \"", key, "\"");
        KILN_CHECK(value->is_number(), where_, ": \"", key, "\" is ", value->dump(), "; expected a number");
        return value->get<float>();
    }
    bool flag(const char* key, bool fallback) const {
        const json* value = find(key);
        if (!value) return fallback;
        KILN_CHECK(value->is_boolean(), where_, ": \"", key, "\" is ", value->dump(), "; expected true or false");
        return value->get<bool>();
    }
    std::string text(const char* key, const std::string& fallback) const {
        const json* value = find(key);
        if (!value) return fallback;
        KILN_CHECK(value->is_string(), where_, ": \"", key, "\" is ", value->dump(), "; expected a string");
        return value->get<std::string>();
    }
    void refuse(const char* key) const {
        const json* value = find(key);
        KILN_CHECK(!value, where_, ": \"", key, "\" is ", value ? value->dump() : "", "; Kiln does not support it");
    }
    void require(const char* key, bool wanted, const char* meaning) const {
        KILN_CHECK(flag(key, wanted) == wanted, where_, ": \"", key, "\" is ", wanted ? "false" : "true", "; ", meaning,
                   " is not supported");
    }
    const std::string& where() const { return where_; }

private:
    const json& object_;
    std::string where_;
};

bool same_shape_as_gpt2(const ModelConfig& c) {
    return c.norm == Norm::layernorm && c.mlp == Mlp::gelu && c.position == Position::learned && c.qkv_bias &&
           c.linear_bias && !c.qk_norm && c.NKV == c.NH && c.NH * c.HS == c.C;
}

bool is_llama_like(const ModelConfig& c) {
    return c.norm == Norm::rmsnorm && c.mlp == Mlp::swiglu && c.position == Position::rope;
}

bool fits(const ModelConfig& c, const std::string& model_type) {
    if (model_type == "gpt2") return same_shape_as_gpt2(c);
    if (!is_llama_like(c)) return false;
    if (model_type == "llama") return !c.qk_norm && c.qkv_bias == c.linear_bias;  // attention_bias and mlp_bias
    if (model_type == "qwen2") return !c.qk_norm && c.qkv_bias && !c.linear_bias;
    if (model_type == "qwen3") return c.qk_norm && !c.qkv_bias && !c.linear_bias;
    return false;
}

void write_gpt2(ordered_json& out, const ModelConfig& c) {
    out["vocab_size"] = c.V;
    out["n_positions"] = c.max_T;
    out["n_embd"] = c.C;
    out["n_layer"] = c.L;
    out["n_head"] = c.NH;
    out["n_inner"] = c.F;
    out["activation_function"] = "gelu_new";
    out["layer_norm_epsilon"] = shortest(c.norm_eps);
    out["embd_pdrop"] = shortest(c.dropout_embedding);
    out["resid_pdrop"] = shortest(c.dropout_residual);
    out["attn_pdrop"] = shortest(c.dropout_attention);
    out["scale_attn_weights"] = true;
    out["scale_attn_by_inverse_layer_idx"] = false;
}

void write_llama_like(ordered_json& out, const ModelConfig& c, const std::string& model_type) {
    out["vocab_size"] = c.V;
    out["max_position_embeddings"] = c.max_T;
    out["hidden_size"] = c.C;
    out["intermediate_size"] = c.F;
    out["num_hidden_layers"] = c.L;
    out["num_attention_heads"] = c.NH;
    out["num_key_value_heads"] = c.NKV;
    out["head_dim"] = c.HS;
    out["hidden_act"] = "silu";
    out["rms_norm_eps"] = shortest(c.norm_eps);
    out["attention_dropout"] = shortest(c.dropout_attention);
    if (model_type == "llama") out["mlp_bias"] = c.linear_bias;
    if (model_type != "qwen2") out["attention_bias"] = c.qkv_bias;
    if (model_type != "llama") out["use_sliding_window"] = false;
    ordered_json rope = {{"rope_type", "default"}};
    if (c.rope_scaling.factor > 0) {
        rope = {{"rope_type", "llama3"},
                {"factor", shortest(c.rope_scaling.factor)},
                {"low_freq_factor", shortest(c.rope_scaling.low_freq_factor)},
                {"high_freq_factor", shortest(c.rope_scaling.high_freq_factor)},
                {"original_max_position_embeddings", c.rope_scaling.original_max_T}};
    }
    // transformers 4 reads the first two, transformers 5 the third.
    out["rope_theta"] = shortest(c.rope_theta);
    out["rope_scaling"] = c.rope_scaling.factor > 0 ? rope : ordered_json(nullptr);
    rope["rope_theta"] = shortest(c.rope_theta);
    out["rope_parameters"] = rope;
}

void check_activation(const Keys& keys, const char* key, const std::string& fallback,
                      std::initializer_list<const char*> supported) {
    const std::string name = keys.text(key, fallback);
    for (const char* known : supported) {
        if (name == known) return;
    }
    throw Error(concat(keys.where(), ": \"", key, "\" is \"", name, "\"; only \"", *supported.begin(),
                       "\" is supported for this model_type"));
}

ModelConfig read_gpt2(const Keys& keys) {
    ModelConfig c;
    c.V = keys.integer("vocab_size");
    c.max_T = keys.integer("n_positions");
    c.C = keys.integer("n_embd");
    c.L = keys.integer("n_layer");
    c.NH = c.NKV = keys.integer("n_head");
    KILN_CHECK(c.NH > 0 && c.C % c.NH == 0, keys.where(), ": \"n_embd\" ", c.C, " is no multiple of \"n_head\" ", c.NH);
    c.HS = c.C / c.NH;
    KILN_CHECK(c.C <= INT32_MAX / 4, keys.where(), ": \"n_embd\" ", c.C, " is too large");
    c.F = keys.integer("n_inner", 4 * c.C);
    check_activation(keys, "activation_function", "gelu_new", {"gelu_new", "gelu_pytorch_tanh"});
    c.norm_eps = keys.number("layer_norm_epsilon", 1e-5f);
    c.dropout_embedding = keys.number("embd_pdrop", 0.1f);
    c.dropout_residual = keys.number("resid_pdrop", 0.1f);
    c.dropout_attention = keys.number("attn_pdrop", 0.1f);
    c.tied_embeddings = keys.flag("tie_word_embeddings", true);
    keys.require("scale_attn_weights", true, "attention without scaling");
    keys.require("scale_attn_by_inverse_layer_idx", false, "scaling by layer");
    keys.require("add_cross_attention", false, "cross-attention");
    return c;
}

void read_rope(const Keys& keys, ModelConfig& c) {
    c.rope_theta = keys.number("rope_theta", 10000.0f);
    const bool nested = keys.find("rope_parameters");
    const char* key = nested ? "rope_parameters" : "rope_scaling";
    const json* object = keys.find(key);
    if (!object) return;
    const Keys rope(*object, concat(keys.where(), ": \"", key, "\""));
    c.rope_theta = rope.number("rope_theta", c.rope_theta);
    const std::string type = rope.text("rope_type", rope.text("type", "default"));
    KILN_CHECK(rope.number("partial_rotary_factor", 1.0f) == 1.0f, rope.where(),
               ": \"partial_rotary_factor\" other than 1 is not supported");
    if (type == "default") return;
    KILN_CHECK(type == "llama3", rope.where(), ": \"rope_type\" is \"", type,
               "\"; only \"default\" and \"llama3\" are supported");
    c.rope_scaling = {.factor = rope.number("factor"),
                      .low_freq_factor = rope.number("low_freq_factor"),
                      .high_freq_factor = rope.number("high_freq_factor"),
                      .original_max_T = rope.integer("original_max_position_embeddings")};
}

// Qwen's configs name a window even where it is not used.
void refuse_sliding_window(const Keys& keys) {
    KILN_CHECK(!keys.flag("use_sliding_window", false), keys.where(),
               ": \"use_sliding_window\" is true; attention over a sliding window is not supported");
    if (const json* types = keys.find("layer_types")) {
        KILN_CHECK(types->is_array(), keys.where(), ": \"layer_types\" is not a list");
        for (const json& type : *types) {
            KILN_CHECK(type == "full_attention", keys.where(), ": \"layer_types\" names ", type.dump(),
                       "; only \"full_attention\" is supported");
        }
    }
}

ModelConfig read_llama_like(const Keys& keys, const std::string& model_type) {
    ModelConfig c;
    c.norm = Norm::rmsnorm, c.mlp = Mlp::swiglu, c.position = Position::rope;
    c.V = keys.integer("vocab_size");
    c.max_T = keys.integer("max_position_embeddings");
    c.C = keys.integer("hidden_size");
    c.F = keys.integer("intermediate_size");
    c.L = keys.integer("num_hidden_layers");
    c.NH = keys.integer("num_attention_heads");
    KILN_CHECK(c.NH > 0, keys.where(), ": \"num_attention_heads\" is 0");
    c.NKV = keys.integer("num_key_value_heads", c.NH);
    c.HS = keys.integer("head_dim", model_type == "qwen3" ? 128 : c.C / c.NH);
    KILN_CHECK(keys.find("head_dim") || model_type == "qwen3" || c.C % c.NH == 0, keys.where(), ": \"hidden_size\" ",
               c.C, " is no multiple of \"num_attention_heads\" ", c.NH);
    check_activation(keys, "hidden_act", "silu", {"silu", "swish"});
    c.norm_eps = keys.number("rms_norm_eps", 1e-6f);
    c.tied_embeddings = keys.flag("tie_word_embeddings", false);
    c.dropout_attention = keys.number("attention_dropout", 0.0f);
    c.qk_norm = model_type == "qwen3";
    c.qkv_bias = model_type == "qwen2" || keys.flag("attention_bias", false);
    c.linear_bias = model_type == "llama" && keys.flag("mlp_bias", false);
    KILN_CHECK(fits(c, model_type), keys.where(), ": \"attention_bias\" is ", c.qkv_bias ? "true" : "false",
               model_type == "llama" ? concat(" but \"mlp_bias\" is ", c.linear_bias ? "true" : "false",
                                              "; biases are supported in both or in neither")
                                     : "; it is supported as false only");
    refuse_sliding_window(keys);
    read_rope(keys, c);
    return c;
}

// The descriptor knows what config.json cannot say (dropout, the family's name); where both speak, they must agree.
ModelConfig check_descriptor(const ModelConfig& read, const std::string& descriptor, const std::string& where) {
    ModelConfig full;
    try {
        full = parse_model(descriptor);
    } catch (const UsageError& error) {
        throw Error(concat(where, ": \"kiln\": ", error.what()));
    }
    ModelConfig same = read;
    same.family = full.family, same.init_std = full.init_std;
    same.dropout_embedding = full.dropout_embedding, same.dropout_residual = full.dropout_residual;
    same.dropout_attention = full.dropout_attention;
    // Values that play no part are not in the file.
    if (same.position != Position::rope) same.rope_theta = full.rope_theta;
    if (same.position != Position::rope || same.rope_scaling.factor == 0) same.rope_scaling = full.rope_scaling;
    KILN_CHECK(same == full, where, ": its keys describe ", describe(same), ", but its \"kiln\" key says ",
               describe(full), "; correct it, or remove the \"kiln\" key");
    return full;
}

}  // namespace

std::string hf_model_type(const ModelConfig& config) {
    if (fits(config, config.family)) return config.family;
    for (const char* type : {"gpt2", "llama", "qwen2", "qwen3"}) {
        if (fits(config, type)) return type;
    }
    return "kiln";
}

ordered_json hf_config(const ModelConfig& config, std::optional<int> end_of_text) {
    const std::string type = hf_model_type(config);
    ordered_json out;
    const char* architecture = type == "gpt2"    ? "GPT2LMHeadModel"
                               : type == "llama" ? "LlamaForCausalLM"
                               : type == "qwen2" ? "Qwen2ForCausalLM"
                               : type == "qwen3" ? "Qwen3ForCausalLM"
                                                 : "KilnForCausalLM";
    out["architectures"] = {architecture};
    out["model_type"] = type;
    if (type == "gpt2") write_gpt2(out, config);
    if (type != "gpt2" && type != "kiln") write_llama_like(out, config, type);
    out["initializer_range"] = shortest(config.init_std);
    out["tie_word_embeddings"] = config.tied_embeddings;
    // Written as null too: the families' defaults may lie outside this vocabulary.
    out["bos_token_id"] = end_of_text ? ordered_json(*end_of_text) : ordered_json(nullptr);
    out["eos_token_id"] = out["bos_token_id"];
    out["torch_dtype"] = "float32";
    out["dtype"] = "float32";
    out["use_cache"] = true;
    out["kiln"] = describe(config);
    return out;
}

ordered_json hf_generation_config(std::optional<int> end_of_text) {
    ordered_json out;
    out["_from_model_config"] = true;
    if (end_of_text) out["bos_token_id"] = out["eos_token_id"] = *end_of_text;
    return out;
}

ModelConfig parse_hf_config(const json& config, const std::string& where) {
    const Keys keys(config, where);
    const std::string type = keys.text("model_type", "");
    const std::string descriptor = keys.text("kiln", "");
    keys.refuse("quantization_config");
    ModelConfig c;
    if (type == "kiln") {
        KILN_CHECK(!descriptor.empty(), where, ": \"model_type\" is \"kiln\" but the descriptor \"kiln\" is missing");
    } else if (type == "gpt2") {
        c = read_gpt2(keys);
    } else if (type == "llama" || type == "qwen2" || type == "qwen3") {
        c = read_llama_like(keys, type);
    } else {
        throw Error(concat(where, ": \"model_type\" is \"", type, "\"; supported are gpt2, llama, qwen2 and qwen3"));
    }
    if (type != "kiln") {
        c.family = type;
        c.init_std = keys.number("initializer_range", 0.02f);
    }
    try {
        if (type != "kiln") validate(c);
        return descriptor.empty() ? c
               : type == "kiln"   ? parse_model(descriptor)
                                  : check_descriptor(c, descriptor, where);
    } catch (const UsageError& error) {  // a file is wrong, not the command line
        throw Error(concat(where, ": ", error.what()));
    }
}

}  // namespace kiln
