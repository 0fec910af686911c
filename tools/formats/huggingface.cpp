#include "tools/formats/huggingface.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <string_view>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/families.h"
#include "cpu_reference/interface/tensors.h"

namespace kiln {
namespace {

constexpr size_t kChunkElems = size_t(1) << 20;  // of a tensor in memory at a time

// The names of the tensors that a field of the parameter table is stored as; they divide its rows in this order.
struct FieldNames {
    std::string_view field;
    std::vector<std::string_view> parts;
    bool transposed = false;
};

struct TensorNames {
    std::string_view base;    // prefix of all names except lm_head; absent if a model was saved without an LM head
    std::string_view blocks;  // prefix of blocks, before the number
    std::vector<FieldNames> fields;
};

const TensorNames& gpt2_names() {
    static const TensorNames names = {"transformer.",
                                      "transformer.h.",
                                      {
                                          {"wte", {"transformer.wte.weight"}},
                                          {"wpe", {"transformer.wpe.weight"}},
                                          {"ln1_w", {"ln_1.weight"}},
                                          {"ln1_b", {"ln_1.bias"}},
                                          {"qkv_w", {"attn.c_attn.weight"}, true},
                                          {"qkv_b", {"attn.c_attn.bias"}},
                                          {"attn_out_w", {"attn.c_proj.weight"}, true},
                                          {"attn_out_b", {"attn.c_proj.bias"}},
                                          {"ln2_w", {"ln_2.weight"}},
                                          {"ln2_b", {"ln_2.bias"}},
                                          {"fc_w", {"mlp.c_fc.weight"}, true},
                                          {"fc_b", {"mlp.c_fc.bias"}},
                                          {"proj_w", {"mlp.c_proj.weight"}, true},
                                          {"proj_b", {"mlp.c_proj.bias"}},
                                          {"lnf_w", {"transformer.ln_f.weight"}},
                                          {"lnf_b", {"transformer.ln_f.bias"}},
                                          {"lm_head", {"lm_head.weight"}},
                                      }};
    return names;
}

// Each family that has Llama's layout has some of these tensors.
const TensorNames& llama_names() {
    static const TensorNames names = {
        "model.",
        "model.layers.",
        {
            {"wte", {"model.embed_tokens.weight"}},
            {"ln1_w", {"input_layernorm.weight"}},
            {"qkv_w", {"self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"}},
            {"qkv_b", {"self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias"}},
            {"q_norm", {"self_attn.q_norm.weight"}},
            {"k_norm", {"self_attn.k_norm.weight"}},
            {"attn_out_w", {"self_attn.o_proj.weight"}},
            {"attn_out_b", {"self_attn.o_proj.bias"}},
            {"ln2_w", {"post_attention_layernorm.weight"}},
            {"fc_w", {"mlp.gate_proj.weight", "mlp.up_proj.weight"}},
            {"fc_b", {"mlp.gate_proj.bias", "mlp.up_proj.bias"}},
            {"proj_w", {"mlp.down_proj.weight"}},
            {"proj_b", {"mlp.down_proj.bias"}},
            {"lnf_w", {"model.norm.weight"}},
            {"lm_head", {"lm_head.weight"}},
        }};
    return names;
}

// Null for the type "kiln", whose tensors have the names of param_table.
const TensorNames* names_of(const std::string& model_type) {
    const Family* family = find_family(model_type);
    if (!family) return nullptr;
    switch (family->layout) {
        case HfLayout::gpt2: return &gpt2_names();
        case HfLayout::llama: return &llama_names();
    }
    return nullptr;
}

// "block.3.qkv_w" -> "qkv_w"
std::string_view field_of(const TensorSpec& spec) {
    const std::string_view name = spec.name;
    return name.substr(name.rfind('.') + 1);
}

size_t rows_of_part(const ModelConfig& c, std::string_view field, size_t part, size_t parts, size_t rows) {
    if (parts == 3) return size_t(part == 0 ? c.NH : c.NKV) * c.HS;  // q | k | v
    return field.starts_with("fc_") ? rows / parts : rows;           // gate | up
}

// Old files have these buffers, which hold no weights.
bool is_buffer(std::string_view name) {
    return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias") ||
           name.ends_with(".rotary_emb.inv_freq");
}

// out[c][r] = in[r][c], in tiles, so that reads and writes stay in cache. A stride is the elements from a row to the
// next.
void transpose(const float* in, size_t in_stride, float* out, size_t out_stride, size_t rows, size_t cols) {
    constexpr size_t kTile = 32;
    for (size_t r0 = 0; r0 < rows; r0 += kTile) {
        for (size_t c0 = 0; c0 < cols; c0 += kTile) {
            for (size_t r = r0; r < std::min(rows, r0 + kTile); r++) {
                for (size_t c = c0; c < std::min(cols, c0 + kTile); c++) {
                    out[c * out_stride + r] = in[r * in_stride + c];
                }
            }
        }
    }
}

// At most eight names, so that the file of another model does not fill the screen.
std::string some_of(const std::vector<std::string>& names) {
    std::string text;
    for (size_t i = 0; i < std::min<size_t>(8, names.size()); i++) text += (i ? ", " : "") + names[i];
    if (names.size() > 8) text += concat(" and ", names.size() - 8, " more");
    return text;
}

// Calls visit(first, count) for parts of `all` things, each of which has `elems` elements.
template <class Visit>
void for_each_part(size_t all, size_t elems, Visit visit) {
    const size_t part = std::max<size_t>(1, kChunkElems / elems);
    for (size_t first = 0; first < all; first += part) visit(first, std::min(part, all - first));
}

// An lm_head in the file must equal the tied embeddings: Kiln keeps only one of the two.
void check_tied_lm_head(const ModelTensors& tensors, const HfTensor& wte, const std::string& wte_name) {
    const auto lm_head = tensors.find("lm_head.weight"), embeddings = tensors.find(wte_name);
    if (!lm_head || !embeddings) return;
    KILN_CHECK(lm_head.tensor->shape == wte.shape, lm_head.file->path().string(),
               ": tensor 'lm_head.weight' has shape ", shape_text(lm_head.tensor->shape), "; config.json asks for ",
               shape_text(wte.shape));
    std::vector<float> a, b;
    for_each_part(wte.rows * wte.cols, 1, [&](size_t first, size_t elems) {
        a.resize(elems), b.resize(elems);
        lm_head.file->read(*lm_head.tensor, first, a);
        embeddings.file->read(*embeddings.tensor, first, b);
        KILN_CHECK(std::memcmp(a.data(), b.data(), elems * sizeof(float)) == 0, lm_head.file->path().string(),
                   ": lm_head.weight differs from ", wte_name,
                   ", but config.json ties them; set \"tie_word_embeddings\": false there to keep both");
    });
}

}  // namespace

std::vector<HfTensor> hf_tensors(const ModelConfig& config, const std::string& model_type) {
    std::vector<HfTensor> tensors;
    const TensorNames* table = names_of(model_type);
    for (const TensorSpec& spec : param_table(config)) {
        FieldNames names{field_of(spec), {spec.name}};
        std::string prefix;
        if (table) {
            const auto row = std::ranges::find(table->fields, field_of(spec), &FieldNames::field);
            KILN_CHECK(row != table->fields.end(), "a model of type ", model_type, " has no tensor for ", spec.name);
            names = *row;
            if (spec.layer >= 0) prefix = concat(table->blocks, spec.layer, ".");
        }
        size_t offset = spec.offset;
        for (size_t part = 0; part < names.parts.size(); part++) {
            HfTensor tensor;
            tensor.name = prefix + std::string(names.parts[part]);
            tensor.rows = rows_of_part(config, names.field, part, names.parts.size(), spec.shape[0]);
            tensor.cols = spec.shape[1];
            tensor.offset = offset;
            tensor.transposed = names.transposed;
            tensor.shape = {tensor.rows};
            if (tensor.transposed) {
                tensor.shape = {tensor.cols, tensor.rows};
            } else if (spec.group != ParamGroup::vector) {
                tensor.shape = {tensor.rows, tensor.cols};
            }
            offset += tensor.rows * tensor.cols;
            tensors.push_back(std::move(tensor));
        }
    }
    return tensors;
}

void append_hf_tensor(SafetensorsWriter& writer, const HfTensor& tensor, const ArenaValues& values) {
    const size_t rows = tensor.rows, cols = tensor.cols;
    if (!tensor.transposed) {
        return for_each_part(rows * cols, 1,
                             [&](size_t first, size_t elems) { writer.append(values(tensor.offset + first, elems)); });
    }
    const std::span<const float> all = values(tensor.offset, rows * cols);
    std::vector<float> part;  // rows of the file
    for_each_part(cols, rows, [&](size_t first, size_t n) {
        part.resize(n * rows);
        transpose(&all[first], cols, part.data(), rows, rows, n);
        writer.append(part);
    });
}

FileDigest write_hf_weights(const std::filesystem::path& path, const ModelState& model) {
    const std::vector<HfTensor> tensors = hf_tensors(model.config, hf_model_type(model.config));
    std::vector<SafetensorsWriter::Declared> declared;
    for (const HfTensor& tensor : tensors) declared.push_back({tensor.name, tensor.shape});
    SafetensorsWriter writer(path, declared);
    std::vector<float> buffer;
    const auto values = [&](size_t offset, size_t elems) -> std::span<const float> {
        buffer.resize(elems);
        model.read(Arena::params, offset, buffer);
        return buffer;
    };
    for (const HfTensor& tensor : tensors) append_hf_tensor(writer, tensor, values);
    return writer.finish();
}

HfWeights::HfWeights(ModelTensors files, const ModelConfig& config, const std::string& model_type)
    : files_(std::move(files)), tensors_(hf_tensors(config, model_type)) {
    const std::string where = files_.path().string();
    const TensorNames* table = names_of(model_type);
    const std::string& first = tensors_[0].name;
    // transformers omits the prefix when it saves a model without the LM head.
    if (table && !files_.find(first) && files_.find(first.substr(table->base.size()))) {
        for (HfTensor& tensor : tensors_) {
            if (tensor.name.starts_with(table->base)) tensor.name.erase(0, table->base.size());
        }
    }
    std::set<std::string> names;
    std::vector<std::string> missing, unexpected;
    for (const HfTensor& tensor : tensors_) {
        names.insert(tensor.name);
        const auto found = files_.find(tensor.name);
        if (!found) {
            missing.push_back(tensor.name);
            continue;
        }
        KILN_CHECK(found.tensor->shape == tensor.shape, found.file->path().string(), ": tensor '", tensor.name,
                   "' has shape ", shape_text(found.tensor->shape), "; config.json asks for ",
                   shape_text(tensor.shape));
    }
    const bool tied = config.tied_embeddings;
    for (const std::string& name : files_.names()) {
        const bool tied_lm_head = table && tied && name == "lm_head.weight";
        if (!names.contains(name) && !is_buffer(name) && !tied_lm_head) unexpected.push_back(name);
    }
    KILN_CHECK(missing.empty(), where, ": ", missing.size(),
               " tensors are missing that config.json asks for: ", some_of(missing),
               unexpected.empty() ? "" : "; the file has instead: ", some_of(unexpected));
    KILN_CHECK(unexpected.empty(), where, ": holds tensors that a model of type ", model_type,
               " with this config.json does not have: ", some_of(unexpected));
    if (tied) check_tied_lm_head(files_, tensors_[0], tensors_[0].name);
}

void HfWeights::read(const HfTensor& tensor, size_t first, std::span<float> out) const {
    const auto found = files_.find(tensor.name);
    if (!tensor.transposed) return found.file->read_finite(*found.tensor, first, out);
    const size_t rows = tensor.rows, cols = tensor.cols;
    KILN_CHECK(first == 0 && out.size() == rows * cols, "a part of the transposed tensor ", tensor.name, " is read");
    std::vector<float> part;  // rows of the file
    for_each_part(cols, rows, [&](size_t begin, size_t n) {
        part.resize(n * rows);
        found.file->read_finite(*found.tensor, begin * rows, part);
        transpose(part.data(), rows, &out[begin], cols, n, rows);
    });
}

std::string HfWeights::dtype() const {
    const auto dtype_of = [&](const HfTensor& tensor) { return files_.find(tensor.name).tensor->dtype; };
    const std::string first = dtype_of(tensors_[0]);
    return std::ranges::all_of(tensors_, [&](const HfTensor& tensor) { return dtype_of(tensor) == first; }) ? first
                                                                                                            : "F32";
}

uint64_t read_hf_weights(ModelTensors files, const std::string& model_type, Engine& engine) {
    const HfWeights weights(std::move(files), engine.config(), model_type);
    Xxh3 hash;
    std::vector<float> buffer;
    for (const HfTensor& tensor : weights.tensors()) {
        const size_t all = tensor.rows * tensor.cols;
        for_each_part(tensor.transposed ? 1 : all, 1, [&](size_t first, size_t n) {
            buffer.resize(tensor.transposed ? all : n);
            weights.read(tensor, first, buffer);
            hash.update(buffer.data(), buffer.size() * sizeof(float));
            engine.write(Arena::params, tensor.offset + first, buffer);
        });
    }
    return hash.digest();
}

}  // namespace kiln
