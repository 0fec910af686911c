#include "tools/formats/gguf.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/families.h"
#include "cpu_reference/interface/rope_table.h"
#include "tools/formats/gguf_file.h"
#include "tools/formats/gguf_tokenizer.h"
#include "tools/formats/huggingface.h"
#include "tools/formats/safetensors.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDescriptor = "kiln.model";  // a key of Kiln's own, which others ignore
constexpr const char* kRopeFactors = "rope_freqs.weight";
constexpr uint64_t kQuantizationVersion = 2;  // of the layout of quantized blocks

// The names of the tensors that a field of the parameter table is stored as; they divide its rows in this order.
struct FieldNames {
    std::string_view field;
    std::vector<std::string_view> parts;
};

std::vector<FieldNames> field_names(const std::string& architecture) {
    std::vector<FieldNames> names = {
        {"wte", {"token_embd.weight"}},
        {"wpe", {"position_embd.weight"}},
        {"ln1_w", {"attn_norm.weight"}},
        {"ln1_b", {"attn_norm.bias"}},
        {"qkv_w", {"attn_q.weight", "attn_k.weight", "attn_v.weight"}},
        {"qkv_b", {"attn_q.bias", "attn_k.bias", "attn_v.bias"}},
        {"q_norm", {"attn_q_norm.weight"}},
        {"k_norm", {"attn_k_norm.weight"}},
        {"attn_out_w", {"attn_output.weight"}},
        {"attn_out_b", {"attn_output.bias"}},
        {"ln2_w", {"ffn_norm.weight"}},
        {"ln2_b", {"ffn_norm.bias"}},
        {"fc_w", {"ffn_gate.weight", "ffn_up.weight"}},
        {"fc_b", {"ffn_gate.bias", "ffn_up.bias"}},
        {"proj_w", {"ffn_down.weight"}},
        {"proj_b", {"ffn_down.bias"}},
        {"lnf_w", {"output_norm.weight"}},
        {"lnf_b", {"output_norm.bias"}},
        {"lm_head", {"output.weight"}},
    };
    if (architecture != "gpt2") return names;
    for (FieldNames& row : names) {
        if (row.field == "qkv_w") row.parts = {"attn_qkv.weight"};
        if (row.field == "qkv_b") row.parts = {"attn_qkv.bias"};
        if (row.field == "fc_w") row.parts = {"ffn_up.weight"};
        if (row.field == "fc_b") row.parts = {"ffn_up.bias"};
    }
    return names;
}

// A tensor of the file: some rows of a tensor of the parameter table.
struct Part {
    std::string name;
    size_t first = 0, rows = 0, cols = 0;  // of the parameter's rows
    bool vector = false;
    size_t head = 0;  // rows of a head whose order RoPE changes; 0: the order is the same

    std::vector<uint64_t> shape() const { return vector ? std::vector<uint64_t>{rows} : std::vector{rows, cols}; }
    // The parameter's row that stands in row r of the file.
    size_t row(size_t r) const {
        if (head == 0) return first + r;
        const size_t i = r % head;
        return first + r - i + i / 2 + i % 2 * (head / 2);
    }
};

std::vector<Part> parts_of(const ModelConfig& c, const std::string& architecture, const TensorSpec& spec) {
    const std::string_view field = std::string_view(spec.name).substr(spec.name.rfind('.') + 1);
    static const std::vector<FieldNames> gpt2 = field_names("gpt2"), llama = field_names("llama");
    const auto& table = architecture == "gpt2" ? gpt2 : llama;
    const auto& names = std::ranges::find(table, field, &FieldNames::field)->parts;
    std::vector<Part> parts;
    size_t first = 0;
    for (const std::string_view name : names) {
        Part part{.name = spec.layer < 0 ? std::string(name) : concat("blk.", spec.layer, ".", name),
                  .first = first,
                  .rows = spec.shape[0] / names.size(),
                  .cols = spec.shape[1],
                  .vector = spec.group == ParamGroup::vector};
        if (names.size() == 3) part.rows = size_t(parts.empty() ? c.NH : c.NKV) * c.HS;  // q | k | v
        if (architecture == "llama" && (name.starts_with("attn_q.") || name.starts_with("attn_k."))) part.head = c.HS;
        first += part.rows;
        parts.push_back(std::move(part));
    }
    return parts;
}

// For each base frequency, the number by which RoPE scaling divides it.
std::vector<float> rope_factors(const ModelConfig& config) {
    const std::vector<double> base = rope_frequencies(config, false), scaled = rope_frequencies(config);
    std::vector<float> factors;
    for (size_t i = 0; i < base.size(); i++) factors.push_back(float(base[i] / scaled[i]));
    return factors;
}

bool has_rope_factors(const ModelConfig& c) {
    return c.uses_rope() && c.rope_scaling.factor > 0 && c.rope_scaling.type == RopeType::llama3;
}

// ---- keys

void write_config(GgufHeader& header, const ModelConfig& c, const std::string& architecture) {
    const auto key = [&](const char* name) { return concat(architecture, ".", name); };
    header.whole(key("context_length"), c.max_T);
    header.whole(key("embedding_length"), c.C);
    header.whole(key("block_count"), c.L);
    header.whole(key("feed_forward_length"), c.F);
    header.whole(key("attention.head_count"), c.NH);
    header.whole(key("attention.head_count_kv"), c.NKV);
    header.whole(key("attention.key_length"), c.HS);
    header.whole(key("attention.value_length"), c.HS);
    header.whole(key("vocab_size"), c.V);
    const bool rms = c.norm == Norm::rmsnorm;
    header.real(key(rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon"), c.norm_eps);
    if (!c.uses_rope()) return;
    header.whole(key("rope.dimension_count"), c.HS);
    header.real(key("rope.freq_base"), c.rope_theta);
    const RopeScaling& s = c.rope_scaling;
    if (s.factor == 0 || has_rope_factors(c)) return;
    header.string(key("rope.scaling.type"), name_of(s.type));
    header.real(key("rope.scaling.factor"), s.factor);
    if (s.type != RopeType::yarn) return;
    header.whole(key("rope.scaling.original_context_length"), s.original_max_T);
    header.real(key("rope.scaling.yarn_beta_fast"), s.beta_fast);
    header.real(key("rope.scaling.yarn_beta_slow"), s.beta_slow);
    // llama.cpp multiplies this by 0.1 ln(factor) + 1.
    if (s.attention_factor > 0) {
        header.real(key("rope.scaling.attn_factor"), s.attention_factor / (0.1f * std::log(s.factor) + 1));
    }
}

// Throws Error if llama.cpp has no architecture that computes what the model computes.
std::string architecture_of(const ModelConfig& c) {
    const std::string type = hf_model_type(c);
    const RopeScaling& s = c.rope_scaling;
    const bool yarn = c.uses_rope() && s.factor > 0 && s.type == RopeType::yarn;
    const char* problem = nullptr;
    if (!find_family(type)) problem = "a combination that none of gpt2, llama, qwen2 and qwen3 has";
    if (type == "gpt2" && c.NH * c.HS != c.C) problem = "a head_size other than dim / heads";
    if (type.starts_with("qwen") && c.linear_bias) problem = "biases in all linear layers";
    if (type == "qwen3" && c.qkv_bias) problem = "QK-norm with a bias on q, k and v";
    if (type != "llama" && has_rope_factors(c)) problem = "the RoPE scaling of Llama 3 in another family";
    if (yarn && !s.truncate) problem = "yarn with rope_truncate=0";
    KILN_CHECK(!problem, "the model (", describe(c), ") has ", problem,
               ", which GGUF cannot describe; export it with --to hf");
    return type;
}

class ConfigReader {
public:
    explicit ConfigReader(const GgufFile& file) : file_(file), architecture_(file.string("general.architecture")) {
        const Family* family = find_family(architecture_);
        KILN_CHECK(family, file.path().string(), ": the architecture is '", architecture_, "'; Kiln has ",
                   family_names());
        if (file.has("split.count")) {
            KILN_CHECK(file.whole("split.count", UINT16_MAX) <= 1, file.path().string(),
                       ": is one of several files of a model; join them with llama-gguf-split --merge");
        }
        config_ = family->defaults;
    }

    ModelConfig read() {
        ModelConfig& c = config_;
        c.L = whole("block_count"), c.C = whole("embedding_length"), c.F = whole("feed_forward_length");
        c.NH = whole("attention.head_count"), c.NKV = whole("attention.head_count_kv", c.NH);
        c.HS = whole("attention.key_length", c.C / std::max(1, c.NH));
        c.max_T = whole("context_length");
        const GgufTensor* embeddings = file_.find("token_embd.weight");
        KILN_CHECK(embeddings && embeddings->shape.size() == 2 && embeddings->shape[0] <= INT32_MAX, where(),
                   ": holds no matrix token_embd.weight, the embeddings of the tokens; the file is damaged");
        c.V = int(embeddings->shape[0]);
        const bool rms = c.norm == Norm::rmsnorm;
        c.norm_eps = file_.real(key(rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon"));
        expect("attention.value_length", c.HS), expect("vocab_size", c.V), expect("expert_count", 0);
        expect("attention.sliding_window", 0);
        c.tied_embeddings = !file_.find("output.weight");
        if (architecture_ != "gpt2") {
            c.qkv_bias = file_.find("blk.0.attn_q.bias"), c.linear_bias = file_.find("blk.0.attn_output.bias");
        }
        if (c.uses_rope()) read_rope();
        if (file_.has(kDescriptor)) read_descriptor();
        if (file_.find(kRopeFactors)) read_rope_factors();
        try {
            validate(c);
        } catch (const UsageError& error) {
            throw Error(concat(where(), ": ", error.what()));
        }
        return c;
    }

private:
    std::string where() const { return file_.path().string(); }
    std::string key(const std::string& name) const { return concat(architecture_, ".", name); }
    int whole(const std::string& name) const { return int(file_.whole(key(name), INT32_MAX)); }
    int whole(const std::string& name, int otherwise) const { return file_.has(key(name)) ? whole(name) : otherwise; }
    float real(const std::string& name, float otherwise) const {
        return file_.has(key(name)) ? file_.real(key(name)) : otherwise;
    }
    void expect(const std::string& name, int value) const {
        const int found = whole(name, value);
        KILN_CHECK(found == value, where(), ": ", key(name), " is ", found, "; Kiln can only read ", value, " here");
    }

    void read_rope() {
        config_.rope_theta = real("rope.freq_base", 10000);
        expect("rope.dimension_count", config_.HS);
        const std::string type = file_.has(key("rope.scaling.type")) ? file_.string(key("rope.scaling.type")) : "none";
        if (type == "none") return;
        KILN_CHECK(type == "linear" || type == "yarn", where(), ": rope.scaling.type is '", type,
                   "'; Kiln has linear and yarn, and Llama 3's in ", kRopeFactors);
        RopeScaling& s = config_.rope_scaling;
        s.type = type == "yarn" ? RopeType::yarn : RopeType::linear;
        s.factor = real("rope.scaling.factor", 1);
        if (s.type != RopeType::yarn) return;
        s.original_max_T = whole("rope.scaling.original_context_length", config_.max_T);
        s.beta_fast = real("rope.scaling.yarn_beta_fast", s.beta_fast);
        s.beta_slow = real("rope.scaling.yarn_beta_slow", s.beta_slow);
        if (const float factor = real("rope.scaling.attn_factor", 0); factor > 0) {
            s.attention_factor = factor * (0.1f * std::log(s.factor) + 1);
        }
    }

    // Takes from the descriptor what no other key holds. In everything else, the descriptor and the keys must agree.
    void read_descriptor() {
        const std::string text = file_.string(kDescriptor);
        ModelConfig described, &c = config_;
        try {
            described = parse_model(text);
        } catch (const UsageError& error) {
            throw Error(concat(where(), ": the key '", kDescriptor, "': ", error.what()));
        }
        c.dropout_embedding = described.dropout_embedding, c.dropout_residual = described.dropout_residual;
        c.dropout_attention = described.dropout_attention, c.init_std = described.init_std, c.family = described.family;
        if (has_rope_factors(described) || described.rope_scaling.factor == c.rope_scaling.factor) {
            c.rope_scaling = described.rope_scaling;
        }
        KILN_CHECK(c == described, where(), ": the key '", kDescriptor, "' describes another model (", text,
                   ") than the other keys (", describe(c), "); remove the one that is wrong");
    }

    // The factors do not say which parameters they were computed from: those of Kiln's descriptor or, without one,
    // those of Llama 3, in which only the factor and the original context differ between models.
    void read_rope_factors() {
        const GgufTensor& tensor = *file_.find(kRopeFactors);
        KILN_CHECK(tensor.elems() == uint64_t(config_.HS) / 2, where(), ": tensor '", kRopeFactors, "' has shape ",
                   shape_text(tensor.shape), "; heads of ", config_.HS, " have ", config_.HS / 2, " factors");
        std::vector<float> factors(tensor.elems());
        file_.read_rows(tensor, 0, factors);
        if (!has_rope_factors(config_)) config_.rope_scaling = llama3_scaling(factors);
        const bool same = std::ranges::equal(factors, rope_factors(config_),
                                             [](float a, float b) { return std::fabs(a - b) <= 1e-4f * std::fabs(b); });
        KILN_CHECK(same, where(), ": the factors in ", kRopeFactors,
                   " are not those of Llama 3's scaling, the only ones that Kiln can compute");
    }
    RopeScaling llama3_scaling(const std::vector<float>& factors) const {
        RopeScaling s{.factor = *std::ranges::max_element(factors)};
        const std::vector<double> base = rope_frequencies(config_, false);
        for (size_t i = 0; i < factors.size(); i++) {
            if (factors[i] <= 1 || factors[i] >= s.factor) continue;
            // The frequency is partly scaled, by how often it rotates within the original context.
            const double kept = (1 / factors[i] - 1 / s.factor) / (1 - 1 / s.factor);
            const double rotations = s.low_freq_factor + kept * (s.high_freq_factor - s.low_freq_factor);
            s.original_max_T = int(std::clamp(std::round(rotations * 2 * M_PI / base[i]), 1.0, 1e9));
        }
        return s;
    }

    const GgufFile& file_;
    const std::string architecture_;
    ModelConfig config_;
};

// Throws Error unless the file has the model's tensors and no others.
void check_tensors(const GgufFile& file, const ModelConfig& config, const std::string& architecture) {
    const std::string where = file.path().string();
    std::set<std::string> wanted;
    for (const TensorSpec& spec : param_table(config)) {
        for (const Part& part : parts_of(config, architecture, spec)) {
            const GgufTensor* tensor = file.find(part.name);
            KILN_CHECK(tensor, where, ": lacks tensor '", part.name, "' of a ", architecture, " with ", config.L,
                       " layers; convert the model again");
            KILN_CHECK(tensor->shape == part.shape(), where, ": tensor '", part.name, "' has shape ",
                       shape_text(tensor->shape), "; the keys ask for ", shape_text(part.shape()));
            wanted.insert(part.name);
        }
    }
    for (const GgufTensor& tensor : file.tensors()) {
        KILN_CHECK(wanted.contains(tensor.name) || tensor.name == kRopeFactors, where, ": holds tensor '", tensor.name,
                   "', which a ", architecture, " of Kiln does not have");
    }
}

// ---- writing

const GgufType& type_of(const TensorSpec& spec, const GgufType& asked) {
    const GgufType* type = find_gguf_type("F32");
    if (spec.group == ParamGroup::vector || spec.name == "wpe") return *type;
    for (type = &asked; !type->fits(spec.shape[1]);) type = find_gguf_type(type->instead);
    return *type;
}

// Writes the file's rows of a tensor whose values are `values`, some at a time.
class TensorWriter {
public:
    TensorWriter(OutputFile& out, ConversionProgress progress, uint64_t all)
        : out_(out), progress_(std::move(progress)), all_(all) {}

    void write(const Part& part, const GgufType& type, std::span<const float> values) {
        const uint64_t row_bytes = part.vector ? type.bytes : type.row_bytes(part.cols);
        const size_t rows_at_once = std::max<size_t>(1, kChunkBytes / row_bytes);
        for (size_t done = 0; done < part.rows; done += rows_at_once) {
            const size_t rows = std::min(rows_at_once, part.rows - done);
            chunk_.resize(rows * row_bytes);
            for (size_t r = 0; r < rows; r++) {
                const auto row = values.subspan(part.row(done + r) * part.cols, part.cols);
                encode(part, type, row, &chunk_[r * row_bytes]);
            }
            put(chunk_.data(), chunk_.size());
        }
        constexpr unsigned char zeros[kGgufAlignment] = {};
        put(zeros, gguf_padded(done_) - done_);
    }

private:
    static constexpr size_t kChunkBytes = 1 << 20;

    void encode(const Part& part, const GgufType& type, std::span<const float> row, unsigned char* out) const {
        for (const float value : row) {
            KILN_CHECK(std::fabs(value) <= type.max, out_.path().string(), ": tensor '", part.name, "' holds ", value,
                       ", which ", type.name, " cannot hold; choose another --type");
        }
        for (size_t i = 0; i < row.size(); i += type.elems) type.encode(&row[i], out + i / type.elems * type.bytes);
    }
    void put(const unsigned char* data, size_t bytes) {
        out_.write(data, bytes);
        done_ += bytes;
        if (progress_) progress_(done_, all_);
    }

    OutputFile& out_;
    const ConversionProgress progress_;
    const uint64_t all_;
    uint64_t done_ = 0;
    std::vector<unsigned char> chunk_;
};

}  // namespace

StoredModel open_gguf(const fs::path& path) {
    const auto file = std::make_shared<const GgufFile>(path);
    const ModelConfig config = ConfigReader(*file).read();
    const std::string architecture = file->string("general.architecture");
    check_tensors(*file, config, architecture);
    const auto read = [file, config, architecture](const TensorSpec& spec, std::span<float> out) {
        std::vector<float> row;
        for (const Part& part : parts_of(config, architecture, spec)) {
            const GgufTensor& tensor = *file->find(part.name);
            if (part.head == 0) {
                file->read_rows(tensor, 0, out.subspan(part.first * part.cols, part.rows * part.cols));
                continue;
            }
            // A vector is one row in the file, and its elements are rows here.
            row.resize(part.vector ? part.rows : part.cols);
            for (size_t r = 0; r < part.rows; r++) {
                if (r == 0 || !part.vector) file->read_rows(tensor, r, row);
                const auto from = std::span<const float>(row).subspan(part.vector ? r : 0, part.cols);
                std::ranges::copy(from, out.begin() + ptrdiff_t(part.row(r) * part.cols));
            }
        }
    };
    // The norms are float32 in every file, so this is the type that holds all values.
    return {config, read_gguf_tokenizer(*file, config.V), "F32", read};
}

void write_gguf(const fs::path& path, const StoredModel& model, std::string_view type_name,
                const ConversionProgress& progress) {
    const ModelConfig& config = model.config;
    const std::string architecture = architecture_of(config);
    const GgufType* asked = find_gguf_type(type_name.empty() ? model.dtype : type_name);
    if (!asked) asked = find_gguf_type("F32");

    const std::vector<TensorSpec> specs = param_table(config);
    GgufHeader header;
    header.string("general.architecture", architecture);
    header.string("general.type", "model");
    header.whole("general.file_type", asked->file_type);
    if (asked->elems > 1) header.whole("general.quantization_version", kQuantizationVersion);
    write_config(header, config, architecture);
    header.string(kDescriptor, describe(config));
    write_gguf_tokenizer(header, model.files, config.V);
    const GgufType& f32 = *find_gguf_type("F32");
    const std::vector<float> factors = has_rope_factors(config) ? rope_factors(config) : std::vector<float>();
    const Part factors_part{.name = kRopeFactors, .rows = factors.size(), .cols = 1, .vector = true};
    if (!factors.empty()) header.tensor(kRopeFactors, factors_part.shape(), f32);
    bool used = false;
    for (const TensorSpec& spec : specs) {
        const GgufType& type = type_of(spec, *asked);
        used = used || &type == asked;
        for (const Part& part : parts_of(config, architecture, spec)) header.tensor(part.name, part.shape(), type);
    }
    KILN_CHECK(used, path.string(), ": no matrix of the model has rows of a multiple of ", asked->elems, " for ",
               asked->name, "; choose another --type");

    AtomicFile file(path);
    file.file().write(header.bytes());
    TensorWriter writer(file.file(), progress, header.data_bytes());
    if (!factors.empty()) writer.write(factors_part, f32, factors);
    std::vector<float> values;
    values.reserve(std::ranges::max(specs, {}, &TensorSpec::elems).elems());  // growing would need two of them
    for (const TensorSpec& spec : specs) {
        values.resize(spec.elems());
        model.read(spec, values);
        for (const Part& part : parts_of(config, architecture, spec)) writer.write(part, type_of(spec, *asked), values);
    }
    file.commit();
}

}  // namespace kiln
