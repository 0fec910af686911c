#include "cpu_reference/interface/model_config.h"
#include "cpu_reference/interface/nearest.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>

#include "cpu_reference/interface/error.h"

namespace kiln {
namespace {

constexpr int kMaxContext = 1 << 20, kMaxWidth = 1 << 20, kMaxLayers = 2047, kMaxHeads = 65535, kMaxVocab = 1 << 28;

int round_up(int n, int multiple) {
    return (n + multiple - 1) / multiple * multiple;
}

// The width of SwiGLU that costs what 4 C would cost in an MLP of two matrices (arXiv:2002.05202), as Llama rounds it.
int default_ffn(Mlp mlp, int C, int multiple_of) {
    if (mlp == Mlp::gelu) return 4 * C;
    return round_up(int(int64_t(4) * C * 2 / 3), multiple_of);
}

ModelConfig gpt2(int L, int C, int NH) {
    ModelConfig c;
    c.L = L, c.C = C, c.NH = c.NKV = NH, c.HS = C / NH, c.F = 4 * C;
    return c;
}

ModelConfig llama(int L, int C, int NH, int NKV, int F, int V, int max_T, bool tied, float theta) {
    ModelConfig c;
    c.family = "llama";
    c.L = L, c.C = C, c.NH = NH, c.NKV = NKV, c.HS = C / NH, c.F = F, c.V = V, c.max_T = max_T;
    c.norm = Norm::rmsnorm, c.mlp = Mlp::swiglu, c.position = Position::rope;
    c.qkv_bias = c.linear_bias = false, c.tied_embeddings = tied;
    c.rope_theta = theta;
    return c;
}

ModelConfig llama3(ModelConfig c, float factor) {
    c.rope_scaling = {.factor = factor, .low_freq_factor = 1, .high_freq_factor = 4, .original_max_T = 8192};
    return c;
}

ModelConfig qwen2(ModelConfig c) {
    c.family = "qwen2", c.qkv_bias = true, c.norm_eps = 1e-6f;
    return c;
}

ModelConfig qwen3(ModelConfig c) {
    c.family = "qwen3", c.qk_norm = true, c.HS = 128, c.norm_eps = 1e-6f;
    return c;
}

// One block of width 128 over GPT-2's vocabulary: 13 M parameters because its head is not tied (tied it has 6.6 M).
ModelConfig gpt_13m() {
    ModelConfig c = gpt2(1, 128, 8);
    c.max_T = 128, c.tied_embeddings = false;
    return c;
}

struct Preset {
    const char* name;
    ModelConfig config;
};

// The first four bear the names of the families and hold their defaults: GPT-2 124M and, for the others, its like.
const std::vector<Preset>& presets() {
    static const std::vector<Preset> table = {
        {"gpt2", gpt2(12, 768, 12)},
        {"llama", llama(12, 768, 12, 12, 2048, 32000, 1024, true, 10000)},
        {"qwen2", qwen2(llama(12, 768, 12, 4, 2048, 151936, 1024, true, 1e6f))},
        {"qwen3", qwen3(llama(12, 768, 12, 4, 2048, 151936, 1024, true, 1e6f))},
        {"gpt2-medium", gpt2(24, 1024, 16)},
        {"gpt2-large", gpt2(36, 1280, 20)},
        {"gpt2-xl", gpt2(48, 1600, 25)},
        {"gpt-13m", gpt_13m()},
        // 12 L C^2 + V C = 2.02e9 with heads of 64 and a width that is a power of two.
        {"gpt-2b", gpt2(38, 2048, 32)},
        {"llama-tiny", llama(8, 288, 8, 4, 768, 4096, 256, true, 10000)},
        {"tinyllama-1.1b", llama(22, 2048, 32, 4, 5632, 32000, 2048, false, 10000)},
        {"llama3.2-1b", llama3(llama(16, 2048, 32, 8, 8192, 128256, 131072, true, 5e5f), 32)},
        {"llama3.1-8b", llama3(llama(32, 4096, 32, 8, 14336, 128256, 131072, false, 5e5f), 8)},
        {"qwen2.5-0.5b", qwen2(llama(24, 896, 14, 2, 4864, 151936, 32768, true, 1e6f))},
        {"qwen3-0.6b", qwen3(llama(28, 1024, 16, 8, 3072, 151936, 40960, true, 1e6f))},
    };
    return table;
}

const ModelConfig* find_preset(std::string_view name) {
    for (const Preset& p : presets()) {
        if (name == p.name) return &p.config;
    }
    return nullptr;
}

// llm.c's table from depth to width and heads (6 and 60 up are its own extensions).
std::optional<ModelConfig> gpt2_of_depth(std::string_view name) {
    struct Row {
        int L, C, NH;
    };
    constexpr Row table[] = {{6, 384, 6},    {12, 768, 12},  {24, 1024, 16}, {36, 1280, 20},
                             {48, 1600, 25}, {60, 1920, 30}, {72, 2880, 30}, {84, 3456, 36}};
    for (const Row& row : table) {
        if (name == concat("d", row.L)) return gpt2(row.L, row.C, row.NH);
    }
    return std::nullopt;
}

// `; did you mean "x"?` and the list of what there is.
std::string suggest(std::string_view text, const std::vector<std::string>& names) {
    std::string all;
    for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
    return concat("did you mean \"", nearest(text, names), "\"? (there are: ", all, ")");
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
    template <class Enum>
    Enum choice(const char* zero, const char* one) const {
        if (text == zero) return Enum(0);
        if (text == one) return Enum(1);
        usage_error(descriptor, concat(key, "=", text, ": expected ", zero, " or ", one));
    }
};

using Setter = void (*)(ModelConfig&, const Value&);

// Every key but multiple_of, which is no field: it only shapes ffn.
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
        {"norm", [](ModelConfig& c, const Value& v) { c.norm = v.choice<Norm>("layernorm", "rmsnorm"); }},
        {"mlp", [](ModelConfig& c, const Value& v) { c.mlp = v.choice<Mlp>("gelu", "swiglu"); }},
        {"position", [](ModelConfig& c, const Value& v) { c.position = v.choice<Position>("learned", "rope"); }},
        {"qkv_bias", [](ModelConfig& c, const Value& v) { c.qkv_bias = v.boolean(); }},
        {"bias", [](ModelConfig& c, const Value& v) { c.linear_bias = v.boolean(); }},
        {"qk_norm", [](ModelConfig& c, const Value& v) { c.qk_norm = v.boolean(); }},
        {"tied", [](ModelConfig& c, const Value& v) { c.tied_embeddings = v.boolean(); }},
        {"eps", [](ModelConfig& c, const Value& v) { c.norm_eps = v.number(1e-12f, 1.0f); }},
        {"theta", [](ModelConfig& c, const Value& v) { c.rope_theta = v.number(1.0f, 1e12f); }},
        {"rope_factor", [](ModelConfig& c, const Value& v) { c.rope_scaling.factor = v.number(0.0f, 1e6f); }},
        {"rope_low", [](ModelConfig& c, const Value& v) { c.rope_scaling.low_freq_factor = v.number(1e-3f, 1e6f); }},
        {"rope_high", [](ModelConfig& c, const Value& v) { c.rope_scaling.high_freq_factor = v.number(1e-3f, 1e6f); }},
        {"rope_original", [](ModelConfig& c, const Value& v) { c.rope_scaling.original_max_T = v.positive(1 << 30); }},
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

// Fills in the dimensions that the descriptor left to follow from the ones it gave.
void derive(ModelConfig& c, const ModelConfig& base, const std::map<std::string, std::string_view, std::less<>>& given,
            int multiple_of, std::string_view descriptor) {
    const auto has = [&](const char* key) { return given.contains(key); };
    const bool free_head_size = base.HS * base.NH != base.C || base.qk_norm;  // Qwen3's stays 128 at any width
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

}  // namespace

void validate(const ModelConfig& c) {
    const auto families = {"gpt2", "llama", "qwen2", "qwen3"};
    if (std::ranges::find(families, c.family) == families.end()) {
        throw UsageError(concat("model: family \"", c.family, "\" is not one of gpt2, llama, qwen2, qwen3"));
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
    if (c.position == Position::rope) {
        if (c.HS % 2 != 0) throw UsageError(concat("model: head_size=", c.HS, " is odd; rope turns pairs"));
        check_range("theta", c.rope_theta, 1, 1e12);
        const RopeScaling& s = c.rope_scaling;
        check_range("rope_factor", s.factor, 0, 1e6);
        if (s.factor != 0) {
            check_range("rope_original", s.original_max_T, 1, 1 << 30);
            check_range("rope_low", s.low_freq_factor, 1e-3, 1e6);
            check_range("rope_high", s.high_freq_factor, 1e-3, 1e6);
            if (s.high_freq_factor <= s.low_freq_factor) {
                throw UsageError(
                    concat("model: rope_high=", s.high_freq_factor, " must be above rope_low=", s.low_freq_factor));
            }
        }
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
        usage_error(descriptor, concat("\"", name, "\" is no preset or family; ", suggest(name, preset_names())));
    }
    if (colon != std::string_view::npos && rest.empty()) {
        usage_error(descriptor, "nothing stands after the colon; expected key=value,...");
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
            usage_error(descriptor, concat("\"", value.key, "\" is no key; ", suggest(value.key, keys)));
        }
        if (!given.emplace(value.key, value.text).second) {
            usage_error(descriptor, concat(value.key, " is given twice"));
        }
    }
    if (given.contains("ffn") && given.contains("multiple_of")) {
        usage_error(descriptor, "ffn and multiple_of exclude each other: multiple_of only rounds a width not given");
    }
    derive(c, base, given, multiple_of, descriptor);
    validate(c);
    return c;
}

std::string describe(const ModelConfig& c) {
    const ModelConfig* family = find_preset(c.family);
    const ModelConfig base = family ? *family : ModelConfig{};
    std::string out = concat(c.family, ":layers=", c.L, ",dim=", c.C, ",heads=", c.NH, ",kv_heads=", c.NKV,
                             ",head_size=", c.HS, ",ffn=", c.F, ",vocab=", c.V, ",ctx=", c.max_T);
    const auto flag = [&](const char* key, bool value, bool usual) {
        if (value != usual) out += concat(",", key, "=", value ? "true" : "false");
    };
    const auto number = [&](const char* key, float value, float usual) {
        if (value != usual) out += concat(",", key, "=", shortest(value));
    };
    if (c.norm != base.norm) out += c.norm == Norm::layernorm ? ",norm=layernorm" : ",norm=rmsnorm";
    if (c.mlp != base.mlp) out += c.mlp == Mlp::gelu ? ",mlp=gelu" : ",mlp=swiglu";
    if (c.position != base.position) out += c.position == Position::learned ? ",position=learned" : ",position=rope";
    flag("qkv_bias", c.qkv_bias, base.qkv_bias);
    flag("bias", c.linear_bias, base.linear_bias);
    flag("qk_norm", c.qk_norm, base.qk_norm);
    flag("tied", c.tied_embeddings, base.tied_embeddings);
    number("eps", c.norm_eps, base.norm_eps);
    number("theta", c.rope_theta, base.rope_theta);
    number("rope_factor", c.rope_scaling.factor, base.rope_scaling.factor);
    number("rope_low", c.rope_scaling.low_freq_factor, base.rope_scaling.low_freq_factor);
    number("rope_high", c.rope_scaling.high_freq_factor, base.rope_scaling.high_freq_factor);
    if (c.rope_scaling.original_max_T != base.rope_scaling.original_max_T) {
        out += concat(",rope_original=", c.rope_scaling.original_max_T);
    }
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
    // A table that is only looked up costs no product; a tied one is the head's matrix as well.
    int64_t N = count_parameters(c);
    if (c.position == Position::learned) N -= int64_t(c.max_T) * c.C;
    if (!c.tied_embeddings) N -= int64_t(c.V) * c.C;
    return 6 * N + 6 * int64_t(c.L) * c.NH * c.HS * T;
}

}  // namespace kiln
