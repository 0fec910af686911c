// Reads and writes the config.json of Hugging Face models.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <set>
#include <string_view>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/families.h"
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

// Reads keys of config.json. A null counts as absent, as in transformers.
class Keys {
public:
    Keys(const json& object, const std::string& where) : object_(object), where_(where) {
        KILN_CHECK(object.is_object(), where, ": is not a JSON object");
    }

    const json* find(const char* key) const {
        asked_.insert(key);
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
    float at_least(float low, const char* key, std::optional<float> fallback = std::nullopt) const {
        const float value = number(key, fallback);
        KILN_CHECK(value >= low, where_, ": \"", key, "\" is ", value, "; expected a number of at least ", low);
        return value;
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
    // Throws on a key that nobody has asked for, unless it is null.
    void refuse_others(const char* reason) const {
        for (const auto& [key, value] : object_.items()) {
            KILN_CHECK(value.is_null() || asked_.contains(key), where_, ": \"", key, "\" is ", value.dump(), "; ",
                       reason);
        }
    }
    bool is_null(const char* key) const { return object_.contains(key) && !find(key); }
    const std::string& where() const { return where_; }

private:
    const json& object_;
    std::string where_;
    mutable std::set<std::string> asked_;
};

// Whether config.json of this family can describe `c`.
bool fits(const ModelConfig& c, const Family& family) {
    const ModelConfig& usual = family.defaults;
    if (c.norm != usual.norm || c.mlp != usual.mlp || c.position != usual.position || c.qk_norm != usual.qk_norm) {
        return false;
    }
    switch (family.layout) {
        case HfLayout::gpt2:
            if (c.NKV != c.NH || c.NH * c.HS != c.C) return false;
            break;
        case HfLayout::llama: break;
    }
    // attention_bias is also for the output matrix of attention. linear_bias is for that one and for the MLP.
    if (family.attention_bias && family.mlp_bias) return c.qkv_bias == c.linear_bias;
    return c.qkv_bias == usual.qkv_bias && c.linear_bias == usual.linear_bias;
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

// What transformers reads, except rope_theta.
ordered_json rope_parameters(const RopeScaling& s) {
    if (s.factor == 0) return {{"rope_type", "default"}};
    ordered_json rope = {{"rope_type", name_of(s.type)}, {"factor", shortest(s.factor)}};
    switch (s.type) {
        case RopeType::linear: break;
        case RopeType::llama3:
            rope["low_freq_factor"] = shortest(s.low_freq_factor);
            rope["high_freq_factor"] = shortest(s.high_freq_factor);
            rope["original_max_position_embeddings"] = s.original_max_T;
            break;
        case RopeType::yarn:
            rope["original_max_position_embeddings"] = s.original_max_T;
            rope["beta_fast"] = shortest(s.beta_fast);
            rope["beta_slow"] = shortest(s.beta_slow);
            rope["truncate"] = s.truncate;
            if (s.attention_factor > 0) rope["attention_factor"] = shortest(s.attention_factor);
            break;
    }
    return rope;
}

void write_llama_like(ordered_json& out, const ModelConfig& c, const Family& family) {
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
    if (family.mlp_bias) out["mlp_bias"] = c.linear_bias;
    if (family.attention_bias) out["attention_bias"] = c.qkv_bias;
    if (family.sliding_window) out["use_sliding_window"] = false;
    ordered_json rope = rope_parameters(c.rope_scaling);
    // transformers 4 reads the first two, transformers 5 the third.
    out["rope_theta"] = shortest(c.rope_theta);
    out["rope_scaling"] = c.rope_scaling.factor > 0 ? rope : ordered_json(nullptr);
    rope["rope_theta"] = shortest(c.rope_theta);
    out["rope_parameters"] = rope;
}

void write_shape(ordered_json& out, const ModelConfig& c, const Family& family) {
    switch (family.layout) {
        case HfLayout::gpt2: return write_gpt2(out, c);
        case HfLayout::llama: return write_llama_like(out, c, family);
    }
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
    KILN_CHECK(c.NH > 0 && c.C % c.NH == 0, keys.where(), ": \"n_embd\" ", c.C, " is not a multiple of \"n_head\" ",
               c.NH);
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

// The dictionary `rope` as modeling_rope_utils.py of transformers 5 reads it; `keys` are those beside it.
RopeScaling read_rope_scaling(const Keys& rope, const Keys& keys, int max_T) {
    const std::string type = rope.text("rope_type", rope.text("type", "default"));
    KILN_CHECK(rope.number("partial_rotary_factor", 1.0f) == 1.0f, rope.where(),
               ": \"partial_rotary_factor\" other than 1 is not supported");
    if (type == "default") return {};
    constexpr RopeType kTypes[] = {RopeType::linear, RopeType::llama3, RopeType::yarn};
    const auto* const found = std::ranges::find_if(kTypes, [&](RopeType t) { return type == name_of(t); });
    KILN_CHECK(found != std::end(kTypes), rope.where(), ": \"rope_type\" is \"", type,
               "\"; only \"default\", \"linear\", \"llama3\" and \"yarn\" are supported");
    RopeScaling s{.type = *found};
    const auto original = [&] {
        constexpr const char* kKey = "original_max_position_embeddings";
        return keys.integer(kKey, rope.integer(kKey, max_T));
    };
    switch (s.type) {
        case RopeType::linear: s.factor = rope.at_least(1, "factor"); break;
        case RopeType::llama3:
            s.factor = rope.at_least(1, "factor");
            s.low_freq_factor = rope.number("low_freq_factor");
            s.high_freq_factor = rope.number("high_freq_factor");
            s.original_max_T = original();
            break;
        case RopeType::yarn: {
            s.original_max_T = original();
            // null, but not absent, means the ratio of the contexts.
            s.factor = rope.is_null("factor") ? max_T / float(s.original_max_T) : rope.at_least(1, "factor");
            s.beta_fast = rope.at_least(1e-3f, "beta_fast", s.beta_fast);
            s.beta_slow = rope.at_least(1e-3f, "beta_slow", s.beta_slow);
            // Absent means true, but null means false.
            s.truncate = rope.flag("truncate", !rope.is_null("truncate"));
            const float mscale = rope.at_least(0, "mscale", 0.0f);
            const float all_dim = rope.at_least(0, "mscale_all_dim", 0.0f);
            if (rope.find("attention_factor")) {
                s.attention_factor = rope.at_least(1e-3f, "attention_factor");
            } else if (mscale > 0 && all_dim > 0) {
                const double growth = 0.1 * std::log(double(s.factor));
                s.attention_factor = float((growth * mscale + 1) / (growth * all_dim + 1));
            }
            rope.find("finetuned");  // the first models with YaRN have this key, which has no effect
            break;
        }
    }
    return s;
}

// Where transformers 4 (rope_scaling, with rope_theta beside it) and transformers 5 (rope_parameters) write RoPE. A
// file may have the keys of both versions, as Kiln's do, if they agree; each version of transformers reads only its
// own.
void read_rope(const Keys& keys, ModelConfig& c) {
    const float theta = c.rope_theta = keys.number("rope_theta", 10000.0f);
    const char* first = keys.find("rope_theta") ? "rope_theta" : nullptr;
    for (const char* key : {"rope_scaling", "rope_parameters"}) {
        const json* object = keys.find(key);
        if (!object) continue;
        const Keys rope(*object, concat(keys.where(), ": \"", key, "\""));
        const RopeScaling scaling = read_rope_scaling(rope, keys, c.max_T);
        const float own_theta = rope.number("rope_theta", theta);
        rope.refuse_others("this rope_type has no such key; correct it, or remove it");
        const bool both_scale = keys.find("rope_scaling") && keys.find("rope_parameters");
        KILN_CHECK((!first || own_theta == c.rope_theta) &&
                       (!both_scale || key == std::string_view("rope_scaling") || scaling == c.rope_scaling),
                   keys.where(), ": \"", both_scale ? "rope_scaling" : "rope_theta", "\" and \"", key,
                   "\" describe different models; remove the one that is wrong");
        c.rope_theta = own_theta;
        c.rope_scaling = scaling;
        first = key;
    }
}

// The configs of Qwen give a window even if use_sliding_window is false.
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

ModelConfig read_llama_like(const Keys& keys, const Family& family) {
    const ModelConfig& usual = family.defaults;
    ModelConfig c = usual;
    c.V = keys.integer("vocab_size");
    c.max_T = keys.integer("max_position_embeddings");
    c.C = keys.integer("hidden_size");
    c.F = keys.integer("intermediate_size");
    c.L = keys.integer("num_hidden_layers");
    c.NH = keys.integer("num_attention_heads");
    KILN_CHECK(c.NH > 0, keys.where(), ": \"num_attention_heads\" is 0");
    c.NKV = keys.integer("num_key_value_heads", c.NH);
    const bool free_head_size = usual.NH * usual.HS != usual.C;  // Qwen3: 128 at any width
    c.HS = keys.integer("head_dim", free_head_size ? usual.HS : c.C / c.NH);
    KILN_CHECK(keys.find("head_dim") || free_head_size || c.C % c.NH == 0, keys.where(), ": \"hidden_size\" ", c.C,
               " is not a multiple of \"num_attention_heads\" ", c.NH);
    check_activation(keys, "hidden_act", "silu", {"silu", "swish"});
    c.norm_eps = keys.number("rms_norm_eps", 1e-6f);
    c.tied_embeddings = keys.flag("tie_word_embeddings", false);
    c.dropout_attention = keys.number("attention_dropout", 0.0f);
    if (family.attention_bias) c.qkv_bias = keys.flag("attention_bias", usual.qkv_bias);
    if (family.mlp_bias) c.linear_bias = keys.flag("mlp_bias", usual.linear_bias);
    KILN_CHECK(fits(c, family), keys.where(), ": \"attention_bias\" is ", c.qkv_bias ? "true" : "false",
               family.mlp_bias ? concat(" but \"mlp_bias\" is ", c.linear_bias ? "true" : "false",
                                        "; biases are supported in both or in neither")
                               : "; it is supported only as false");
    refuse_sliding_window(keys);
    read_rope(keys, c);
    return c;
}

ModelConfig read_shape(const Keys& keys, const Family& family) {
    switch (family.layout) {
        case HfLayout::gpt2: return read_gpt2(keys);
        case HfLayout::llama: return read_llama_like(keys, family);
    }
    throw Error("no such layout");
}

// The descriptor has what config.json cannot express (dropout, the family). What both express must agree.
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
    // config.json does not hold values that have no effect.
    if (!same.uses_rope()) same.rope_theta = full.rope_theta;
    if (!same.uses_rope() || rope_parameters(same.rope_scaling) == rope_parameters(full.rope_scaling)) {
        same.rope_scaling = full.rope_scaling;
    }
    KILN_CHECK(same == full, where, ": its keys describe ", describe(same), ", but its \"kiln\" key says ",
               describe(full), "; correct it, or remove the \"kiln\" key");
    return full;
}

// Throws Error on a key that changes what the model computes. The key may exist with a value that switches it off:
// null, false, zero, an empty object, or, for a factor, one.
void refuse_other_computations(const Keys& keys) {
    for (const char* key :
         {"quantization_config", "compression_config", "pruned_heads", "use_parallel_residual", "alibi",
          "is_encoder_decoder", "clip_qkv", "attn_logit_softcapping", "final_logit_softcapping", "logit_softcapping",
          "num_experts", "num_local_experts", "n_routed_experts", "use_qk_norm", "qk_layernorm", "multi_query"}) {
        const json* value = keys.find(key);
        if (value && *value != json(false) && *value != json(0) && *value != json::object()) keys.refuse(key);
    }
    for (const char* key : {"partial_rotary_factor", "rotary_pct", "embedding_multiplier", "residual_multiplier",
                            "logits_scaling", "logit_scale", "scale_emb"}) {
        if (keys.number(key, 1.0f) != 1.0f) keys.refuse(key);
    }
}

}  // namespace

std::string hf_model_type(const ModelConfig& config) {
    const Family* own = find_family(config.family);
    if (own && fits(config, *own)) return config.family;
    const auto other = std::ranges::find_if(families(), [&](const Family& family) { return fits(config, family); });
    return other == families().end() ? "kiln" : std::string(other->name);
}

ordered_json hf_config(const ModelConfig& config, const ordered_json& token_ids, const std::string& dtype) {
    const std::string type = hf_model_type(config);
    const Family* family = find_family(type);
    ordered_json out;
    out["architectures"] = {family ? family->architecture : "KilnForCausalLM"};
    out["model_type"] = type;
    if (family) write_shape(out, config, *family);
    out["initializer_range"] = shortest(config.init_std);
    out["tie_word_embeddings"] = config.tied_embeddings;
    // null is written too: the default of transformers may be outside this vocabulary.
    out["bos_token_id"] = nullptr;
    out["eos_token_id"] = nullptr;
    if (token_ids.is_object()) out.update(token_ids);
    out["torch_dtype"] = dtype;
    out["dtype"] = dtype;
    out["use_cache"] = true;
    out["kiln"] = describe(config);
    return out;
}

ordered_json hf_generation_config(const ordered_json& token_ids) {
    ordered_json out;
    out["_from_model_config"] = true;
    if (token_ids.is_object()) out.update(token_ids);
    return out;
}

json hf_default_eos(const json& config) {
    const json type = config.is_object() ? config.value("model_type", json()) : json();
    return type == "gpt2" ? json(50256) : type == "llama" ? json(2) : json(nullptr);
}

ModelConfig parse_hf_config(const json& config, const std::string& where) {
    const Keys keys(config, where);
    const std::string type = keys.text("model_type", "");
    const std::string descriptor = keys.text("kiln", "");
    refuse_other_computations(keys);
    try {
        if (type == "kiln") {
            KILN_CHECK(!descriptor.empty(), where,
                       ": \"model_type\" is \"kiln\" but the descriptor \"kiln\" is missing");
            return parse_model(descriptor);
        }
        const Family* family = find_family(type);
        KILN_CHECK(family, where, ": \"model_type\" is \"", type, "\"; Kiln supports ", family_names());
        ModelConfig c = read_shape(keys, *family);
        c.family = type;
        c.init_std = keys.number("initializer_range", 0.02f);
        validate(c);
        return descriptor.empty() ? c : check_descriptor(c, descriptor, where);
    } catch (const UsageError& error) {  // the file is wrong, not the command line
        throw Error(concat(where, ": ", error.what()));
    }
}

}  // namespace kiln
