#include "cpu_reference/interface/model_config.h"
#include "cpu_reference/interface/text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/families.h"
#include "cpu_reference/interface/tensors.h"

namespace kiln {
namespace {

constexpr int kMaxContext = 1 << 20, kMaxWidth = 1 << 20, kMaxLayers = 2047, kMaxHeads = 65535, kMaxVocab = 1 << 28;

// SwiGLU has three matrices, so 2/3 of the width costs the same (arXiv:2002.05202). Llama rounds up to a multiple.
int default_ffn(Mlp mlp, int C, int multiple_of) {
    switch (mlp) {
        case Mlp::gelu: break;
        case Mlp::swiglu: return (int(int64_t(4) * C * 2 / 3) + multiple_of - 1) / multiple_of * multiple_of;
    }
    return 4 * C;
}

const ModelConfig* find_preset(std::string_view name) {
    const auto found = std::ranges::find(presets(), name, &Preset::name);
    return found == presets().end() ? nullptr : &found->config;
}

// `; did you mean "x"?` and the list of what there is.
std::string suggest(std::string_view text, const std::vector<std::string>& names) {
    std::string all;
    for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
    return concat("did you mean \"", nearest(text, names), "\"? (choose from: ", all, ")");
}

[[noreturn]] void usage_error(std::string_view descriptor, const std::string& message) {
    throw UsageError(concat("model \"", descriptor, "\": ", message));
}

// One `key=value` of a descriptor.
struct Value {
    std::string_view descriptor, key, text;

    template <class Number>
    Number number(Number low, Number high) const {
        Number value{};
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        const bool whole = error == std::errc() && end == text.data() + text.size();
        if (!whole || !(value >= low && value <= high)) {
            usage_error(descriptor, concat(key, "=", text, ": expected a number from ", low, " to ", high));
        }
        return value;
    }
    int positive(int high) const { return number<int>(1, high); }
    bool boolean() const {
        if (text == "true" || text == "1" || text == "yes" || text == "on") return true;
        if (text == "false" || text == "0" || text == "no" || text == "off") return false;
        usage_error(descriptor, concat(key, "=", text, ": expected true or false"));
    }
    // The value of the enumeration, which is 0, 1, ... without gaps, that has this name.
    template <class Enum>
    Enum choice() const {
        std::string names;
        for (int i = 0; *name_of(Enum(i)) != '\0'; i++) {
            if (text == name_of(Enum(i))) return Enum(i);
            names += concat(i == 0 ? "" : " or ", name_of(Enum(i)));
        }
        usage_error(descriptor, concat(key, "=", text, ": expected ", names));
    }
};

using Setter = void (*)(ModelConfig&, const Value&);

// Every key except multiple_of, which sets no field of its own.
const std::vector<std::pair<std::string, Setter>>& setters() {
    static const std::vector<std::pair<std::string, Setter>> table = {
        {"layers", [](ModelConfig& c, const Value& v) { c.L = v.positive(kMaxLayers); }},
        {"dim", [](ModelConfig& c, const Value& v) { c.C = v.positive(kMaxWidth); }},
        {"heads", [](ModelConfig& c, const Value& v) { c.NH = v.positive(kMaxHeads); }},
        {"kv_heads", [](ModelConfig& c, const Value& v) { c.NKV = v.positive(kMaxHeads); }},
        {"head_size", [](ModelConfig& c, const Value& v) { c.HS = v.positive(kMaxWidth); }},
        {"ffn", [](ModelConfig& c, const Value& v) { c.F = v.positive(kMaxWidth); }},
        {"vocab", [](ModelConfig& c, const Value& v) { c.V = v.positive(kMaxVocab); }},
        {"ctx", [](ModelConfig& c, const Value& v) { c.max_T = v.positive(kMaxContext); }},
        {"norm", [](ModelConfig& c, const Value& v) { c.norm = v.choice<Norm>(); }},
        {"mlp", [](ModelConfig& c, const Value& v) { c.mlp = v.choice<Mlp>(); }},
        {"position", [](ModelConfig& c, const Value& v) { c.position = v.choice<Position>(); }},
        {"qkv_bias", [](ModelConfig& c, const Value& v) { c.qkv_bias = v.boolean(); }},
        {"bias", [](ModelConfig& c, const Value& v) { c.linear_bias = v.boolean(); }},
        {"qk_norm", [](ModelConfig& c, const Value& v) { c.qk_norm = v.boolean(); }},
        {"tied", [](ModelConfig& c, const Value& v) { c.tied_embeddings = v.boolean(); }},
        {"eps", [](ModelConfig& c, const Value& v) { c.norm_eps = v.number(1e-12f, 1.0f); }},
        {"theta", [](ModelConfig& c, const Value& v) { c.rope_theta = v.number(1.0f, 1e12f); }},
        {"rope_type", [](ModelConfig& c, const Value& v) { c.rope_scaling.type = v.choice<RopeType>(); }},
        {"rope_factor", [](ModelConfig& c, const Value& v) { c.rope_scaling.factor = v.number(0.0f, 1e6f); }},
        {"rope_low", [](ModelConfig& c, const Value& v) { c.rope_scaling.low_freq_factor = v.number(1e-3f, 1e6f); }},
        {"rope_high", [](ModelConfig& c, const Value& v) { c.rope_scaling.high_freq_factor = v.number(1e-3f, 1e6f); }},
        {"rope_original", [](ModelConfig& c, const Value& v) { c.rope_scaling.original_max_T = v.positive(1 << 30); }},
        {"rope_beta_fast", [](ModelConfig& c, const Value& v) { c.rope_scaling.beta_fast = v.number(1e-3f, 1e6f); }},
        {"rope_beta_slow", [](ModelConfig& c, const Value& v) { c.rope_scaling.beta_slow = v.number(1e-3f, 1e6f); }},
        {"rope_truncate", [](ModelConfig& c, const Value& v) { c.rope_scaling.truncate = v.boolean(); }},
        {"rope_attention",
         [](ModelConfig& c, const Value& v) { c.rope_scaling.attention_factor = v.number(0.0f, 1e3f); }},
        {"dropout",
         [](ModelConfig& c, const Value& v) {
             c.dropout_embedding = c.dropout_residual = c.dropout_attention = v.number(0.0f, 0.999f);
         }},
        {"dropout_embedding", [](ModelConfig& c, const Value& v) { c.dropout_embedding = v.number(0.0f, 0.999f); }},
        {"dropout_residual", [](ModelConfig& c, const Value& v) { c.dropout_residual = v.number(0.0f, 0.999f); }},
        {"dropout_attention", [](ModelConfig& c, const Value& v) { c.dropout_attention = v.number(0.0f, 0.999f); }},
        {"init_std", [](ModelConfig& c, const Value& v) { c.init_std = v.number(0.0f, 10.0f); }},
    };
    return table;
}

// Sets the dimensions that the descriptor does not give, from those that it gives.
void derive(ModelConfig& c, const ModelConfig& base, const std::map<std::string, std::string_view, std::less<>>& given,
            int multiple_of, std::string_view descriptor) {
    const auto has = [&](const char* key) { return given.contains(key); };
    const bool free_head_size = base.HS * base.NH != base.C || base.qk_norm;  // Qwen3 keeps 128 at any width
    if (!has("head_size") && has("heads") && !free_head_size) {
        if (c.C % c.NH != 0) {
            usage_error(descriptor, concat("dim=", c.C, " is not a multiple of heads=", c.NH, "; give head_size too"));
        }
        c.HS = c.C / c.NH;
    }
    if (!has("heads") && (has("dim") || has("head_size"))) {
        const int width = free_head_size ? base.NH * base.HS * (c.C / double(base.C)) : c.C;
        if (width % c.HS != 0 || width == 0) {
            usage_error(descriptor, concat("dim=", c.C, " is not a multiple of head_size=", c.HS, "; give heads too"));
        }
        c.NH = width / c.HS;
    }
    if (!has("kv_heads")) {
        const int group = base.NH / base.NKV;
        c.NKV = c.NH % group == 0 ? c.NH / group : c.NH;
    }
    if (!has("ffn") && (has("dim") || has("multiple_of") || c.mlp != base.mlp)) {
        c.F = default_ffn(c.mlp, c.C, multiple_of);
    }
}

std::string shortest(float value) {
    char buffer[32];
    return std::string(buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr);
}

void check_range(const char* field, double value, double low, double high) {
    if (!(value >= low && value <= high)) {
        throw UsageError(concat("model: ", field, " is ", value, "; it must lie in [", low, ", ", high, "]"));
    }
}

void check_rope(const ModelConfig& c) {
    if (c.HS % 2 != 0) throw UsageError(concat("model: head_size=", c.HS, " is odd; rope rotates pairs of elements"));
    check_range("theta", c.rope_theta, 1, 1e12);
    const RopeScaling& s = c.rope_scaling;
    if (s.factor == 0) return;
    check_range("rope_factor", s.factor, 1, 1e6);
    check_range("rope_original", s.original_max_T, 1, 1 << 30);
    switch (s.type) {
        case RopeType::linear: break;
        case RopeType::llama3:
            check_range("rope_low", s.low_freq_factor, 1e-3, 1e6);
            check_range("rope_high", s.high_freq_factor, 1e-3, 1e6);
            if (s.high_freq_factor <= s.low_freq_factor) {
                throw UsageError(
                    concat("model: rope_high=", s.high_freq_factor, " must be above rope_low=", s.low_freq_factor));
            }
            break;
        case RopeType::yarn:
            check_range("theta with rope_type=yarn", c.rope_theta, 1.001, 1e12);  // its logarithm divides
            check_range("rope_beta_fast", s.beta_fast, 1e-3, 1e6);
            check_range("rope_beta_slow", s.beta_slow, 1e-3, s.beta_fast);
            if (s.attention_factor != 0) check_range("rope_attention", s.attention_factor, 1e-3, 1e3);
            break;
    }
}

}  // namespace

const char* name_of(Norm norm) {
    switch (norm) {
        case Norm::layernorm: return "layernorm";
        case Norm::rmsnorm: return "rmsnorm";
    }
    return "";
}
const char* name_of(Mlp mlp) {
    switch (mlp) {
        case Mlp::gelu: return "gelu";
        case Mlp::swiglu: return "swiglu";
    }
    return "";
}
const char* name_of(Position position) {
    switch (position) {
        case Position::learned: return "learned";
        case Position::rope: return "rope";
    }
    return "";
}
const char* name_of(RopeType type) {
    switch (type) {
        case RopeType::llama3: return "llama3";
        case RopeType::linear: return "linear";
        case RopeType::yarn: return "yarn";
    }
    return "";
}

bool ModelConfig::centered_norm() const {
    switch (norm) {
        case Norm::layernorm: return true;
        case Norm::rmsnorm: break;
    }
    return false;
}

bool ModelConfig::uses_rope() const {
    switch (position) {
        case Position::learned: break;
        case Position::rope: return true;
    }
    return false;
}

int ModelConfig::FC() const {
    switch (mlp) {
        case Mlp::gelu: break;
        case Mlp::swiglu: return 2 * F;
    }
    return F;
}

void validate(const ModelConfig& c) {
    if (!find_family(c.family)) {
        throw UsageError(concat("model: family \"", c.family, "\" is not one of ", family_names()));
    }
    check_range("layers", c.L, 1, kMaxLayers);
    check_range("dim", c.C, 1, kMaxWidth);
    check_range("heads", c.NH, 1, kMaxHeads);
    check_range("kv_heads", c.NKV, 1, c.NH);
    check_range("head_size", c.HS, 1, kMaxWidth);
    check_range("ffn", c.F, 1, kMaxWidth);
    check_range("vocab", c.V, 1, kMaxVocab);
    check_range("ctx", c.max_T, 1, kMaxContext);
    check_range("width of q, k and v (heads + 2 kv_heads) * head_size", double(c.NH + 2.0 * c.NKV) * c.HS, 1, 1 << 24);
    check_range("eps", c.norm_eps, 1e-12, 1);
    check_range("dropout_embedding", c.dropout_embedding, 0, 0.999);
    check_range("dropout_residual", c.dropout_residual, 0, 0.999);
    check_range("dropout_attention", c.dropout_attention, 0, 0.999);
    check_range("init_std", c.init_std, 0, 10);
    if (c.NH % c.NKV != 0) {
        throw UsageError(concat("model: heads=", c.NH, " is not a multiple of kv_heads=", c.NKV));
    }
    switch (c.position) {
        case Position::learned: break;
        case Position::rope: check_rope(c);
    }
}

ModelConfig parse_model(std::string_view descriptor) {
    const size_t colon = descriptor.find(':');
    const std::string_view name = descriptor.substr(0, colon);
    std::string_view rest = colon == std::string_view::npos ? std::string_view() : descriptor.substr(colon + 1);
    ModelConfig base;
    if (const auto config = gpt2_of_depth(name)) {
        base = *config;
    } else if (const ModelConfig* preset = find_preset(name)) {
        base = *preset;
    } else {
        usage_error(descriptor,
                    concat("\"", name, "\" is neither a preset nor a family; ", suggest(name, preset_names()),
                           "; d6, d12, d24, ... are GPT-2 with so many layers"));
    }
    if (colon != std::string_view::npos && rest.empty()) {
        usage_error(descriptor, "there is nothing after the colon; expected key=value,...");
    }
    if (name == "gpt2") {  // gpt2:d12, and gpt2:d12,ctx=256
        if (const auto config = gpt2_of_depth(rest.substr(0, rest.find(',')))) {
            base = *config;
            const size_t comma = rest.find(',');
            rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
        }
    }

    ModelConfig c = base;
    std::map<std::string, std::string_view, std::less<>> given;
    int multiple_of = 32;
    while (!rest.empty()) {
        const size_t comma = rest.find(',');
        const std::string_view item = rest.substr(0, comma);
        rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
        const size_t equals = item.find('=');
        if (equals == std::string_view::npos) {
            usage_error(descriptor, concat("\"", item, "\" is not of the form key=value"));
        }
        const Value value{descriptor, item.substr(0, equals), item.substr(equals + 1)};
        const auto setter = std::ranges::find(setters(), value.key, &std::pair<std::string, Setter>::first);
        if (value.key == "multiple_of") {
            multiple_of = value.positive(65536);
        } else if (setter != setters().end()) {
            setter->second(c, value);
        } else {
            std::vector<std::string> keys = {"multiple_of"};
            for (const auto& [key, unused] : setters()) keys.push_back(key);
            usage_error(descriptor, concat("\"", value.key, "\" is not a key; ", suggest(value.key, keys)));
        }
        if (!given.emplace(value.key, value.text).second) {
            usage_error(descriptor, concat(value.key, " is given twice"));
        }
    }
    if (given.contains("ffn") && given.contains("multiple_of")) {
        usage_error(descriptor,
                    "ffn and multiple_of exclude each other: multiple_of only rounds a width that is not given");
    }
    derive(c, base, given, multiple_of, descriptor);
    validate(c);
    return c;
}

std::string describe(const ModelConfig& c) {
    const Family* family = find_family(c.family);
    const ModelConfig base = family ? family->defaults : ModelConfig{};
    std::string out = concat(c.family, ":layers=", c.L, ",dim=", c.C, ",heads=", c.NH, ",kv_heads=", c.NKV,
                             ",head_size=", c.HS, ",ffn=", c.F, ",vocab=", c.V, ",ctx=", c.max_T);
    const auto flag = [&](const char* key, bool value, bool usual) {
        if (value != usual) out += concat(",", key, "=", value ? "true" : "false");
    };
    const auto number = [&](const char* key, float value, float usual) {
        if (value != usual) out += concat(",", key, "=", shortest(value));
    };
    const auto choice = [&](const char* key, auto value, auto usual) {
        if (value != usual) out += concat(",", key, "=", name_of(value));
    };
    choice("norm", c.norm, base.norm);
    choice("mlp", c.mlp, base.mlp);
    choice("position", c.position, base.position);
    flag("qkv_bias", c.qkv_bias, base.qkv_bias);
    flag("bias", c.linear_bias, base.linear_bias);
    flag("qk_norm", c.qk_norm, base.qk_norm);
    flag("tied", c.tied_embeddings, base.tied_embeddings);
    number("eps", c.norm_eps, base.norm_eps);
    number("theta", c.rope_theta, base.rope_theta);
    const RopeScaling &rope = c.rope_scaling, &usual = base.rope_scaling;
    choice("rope_type", rope.type, usual.type);
    number("rope_factor", rope.factor, usual.factor);
    number("rope_low", rope.low_freq_factor, usual.low_freq_factor);
    number("rope_high", rope.high_freq_factor, usual.high_freq_factor);
    if (rope.original_max_T != usual.original_max_T) out += concat(",rope_original=", rope.original_max_T);
    number("rope_beta_fast", rope.beta_fast, usual.beta_fast);
    number("rope_beta_slow", rope.beta_slow, usual.beta_slow);
    flag("rope_truncate", rope.truncate, usual.truncate);
    number("rope_attention", rope.attention_factor, usual.attention_factor);
    number("dropout_embedding", c.dropout_embedding, base.dropout_embedding);
    number("dropout_residual", c.dropout_residual, base.dropout_residual);
    number("dropout_attention", c.dropout_attention, base.dropout_attention);
    number("init_std", c.init_std, base.init_std);
    return out;
}

std::vector<std::string> preset_names() {
    std::vector<std::string> names;
    for (const Preset& p : presets()) names.emplace_back(p.name);
    return names;
}

int64_t flops_per_token(const ModelConfig& c, int T) {
    int64_t N = count_parameters(c);
    for (const TensorSpec& spec : param_table(c)) {
        // Looking rows up needs no matmul, except that a tied wte is the matrix of the LM head too.
        const bool looked_up = spec.group == ParamGroup::embedding && !(spec.name == "wte" && c.tied_embeddings);
        if (looked_up) N -= int64_t(spec.elems());
    }
    return 6 * N + 6 * int64_t(c.L) * c.NH * c.HS * T;
}

}  // namespace kiln
