#include "tools/formats/llama2c.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/families.h"
#include "tokenizer/formats/llama2c.h"
#include "tokenizer/io/file.h"
#include "tools/formats/foreign_file.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

constexpr uint32_t kMagic = 0x616b3432;
constexpr int kLargestGroup = 64;
constexpr uint64_t kLegacyHeaderBytes = 28, kHeaderBytes = 256;
constexpr size_t kGroupSizeAt = 37;  // byte of the header
constexpr size_t kChunkElems = size_t(1) << 20;
using Header = std::array<unsigned char, kHeaderBytes>;

// A part of a field of the parameter table that is a tensor of the file.
enum class Part : uint8_t { whole, q, k, v, gate, up, cos_and_sin };
struct Field {
    std::string_view name;
    Part part = Part::whole;
};
constexpr Field kLegacyOrder[] = {{"wte"},
                                  {"ln1_w"},
                                  {"qkv_w", Part::q},
                                  {"qkv_w", Part::k},
                                  {"qkv_w", Part::v},
                                  {"attn_out_w"},
                                  {"ln2_w"},
                                  {"fc_w", Part::gate},
                                  {"proj_w"},
                                  {"fc_w", Part::up},
                                  {"lnf_w"},
                                  {"", Part::cos_and_sin},
                                  {"lm_head"}};
constexpr Field kOrder[] = {{"ln1_w"},
                            {"ln2_w"},
                            {"lnf_w"},
                            {"wte"},
                            {"qkv_w", Part::q},
                            {"qkv_w", Part::k},
                            {"qkv_w", Part::v},
                            {"attn_out_w"},
                            {"fc_w", Part::gate},
                            {"proj_w"},
                            {"fc_w", Part::up},
                            {"lm_head"}};

// A tensor of the file: rows of a parameter.
struct Place {
    TensorSpec spec;
    Part part;
    size_t row, rows;
    uint64_t byte;   // of the file
    bool quantized;  // int8 values, then scales
    uint64_t elems() const { return rows * spec.shape[1]; }
    bool turns() const { return part == Part::q || part == Part::k; }  // RoPE rotates it
};

struct Layout {
    Layout(const ModelConfig& config, int version, int group_size);
    std::vector<Place> places;  // in the order of the file
    uint64_t bytes = 0;         // of the file
};

Layout::Layout(const ModelConfig& c, int version, int group_size)
    : bytes(version == 0 ? kLegacyHeaderBytes : kHeaderBytes) {
    const std::vector<TensorSpec> table = param_table(c);
    const auto add = [&](const TensorSpec& spec, Part part) {
        const size_t q = size_t(c.NH) * c.HS, kv = size_t(c.NKV) * c.HS, F = c.F;
        const auto [row, rows] = [&]() -> std::pair<size_t, size_t> {
            switch (part) {
                case Part::q: return {0, q};
                case Part::k: return {q, kv};
                case Part::v: return {q + kv, kv};
                case Part::gate: return {0, F};
                case Part::up: return {F, F};
                case Part::whole:
                case Part::cos_and_sin: break;
            }
            return {0, spec.shape[0]};
        }();
        const bool quantized = version == 2 && spec.decays();
        places.push_back({spec, part, row, rows, bytes, quantized});
        const uint64_t elems = places.back().elems();
        bytes += quantized ? elems + elems / group_size * sizeof(float) : elems * sizeof(float);
    };
    for (const Field& field : version == 0 ? std::span<const Field>(kLegacyOrder) : std::span<const Field>(kOrder)) {
        if (field.part == Part::cos_and_sin) {
            TensorSpec table_of_rope{};
            table_of_rope.shape = {2 * size_t(c.max_T), size_t(c.HS) / 2};
            add(table_of_rope, field.part);
        }
        for (const TensorSpec& spec : table) {
            if (tensor_name(std::string(field.name).c_str(), spec.layer) == spec.name) add(spec, field.part);
        }
    }
}

// Llama of these dimensions, as run.c computes it.
ModelConfig llama(int C, int F, int L, int NH, int NKV, int V, int max_T, bool tied) {
    ModelConfig c = find_family("llama")->defaults;
    c.C = C, c.F = F, c.L = L, c.NH = NH, c.NKV = NKV, c.HS = C / NH, c.V = V, c.max_T = max_T;
    c.tied_embeddings = tied, c.norm_eps = 1e-5f, c.rope_theta = 10000;
    return c;
}

void check_model(const ModelConfig& c) {
    ModelConfig wanted = llama(c.C, c.F, c.L, c.NH, c.NKV, c.V, c.max_T, c.tied_embeddings);
    wanted.dropout_embedding = c.dropout_embedding, wanted.dropout_residual = c.dropout_residual;
    wanted.dropout_attention = c.dropout_attention, wanted.init_std = c.init_std;
    KILN_CHECK(c == wanted,
               "llama2.c's programs compute only Llama with a RoPE base (theta) of 10000 and an epsilon of "
               "1e-5; this model is ",
               describe(c), ", and there it would be ", describe(wanted), "; export it to another format");
}

// RoPE rotates elements j and j + HS / 2 of a head in Kiln and in Hugging Face's files, and elements 2 j and 2 j + 1 in
// llama2.c. `rows` is (n, cols) and holds whole heads; one head is copied at a time.
void permute_heads(std::span<float> rows, size_t HS, size_t cols, bool to_pairs) {
    std::vector<float> head(HS * cols);
    for (auto begin = rows.begin(); begin != rows.end(); begin += ptrdiff_t(head.size())) {
        std::copy_n(begin, head.size(), head.begin());
        for (size_t row = 0; row < HS; row++) {
            const size_t paired = 2 * (row % (HS / 2)) + row / (HS / 2);
            const auto [from, to] = to_pairs ? std::pair(row, paired) : std::pair(paired, row);
            std::copy_n(head.begin() + ptrdiff_t(from * cols), cols, begin + ptrdiff_t(to * cols));
        }
    }
}

// The largest group, a power of two, that divides the rows of every matrix: runq.c multiplies group by group.
int group_size_of(const ModelConfig& c) {
    int size = kLargestGroup;
    while (c.C % size != 0 || c.F % size != 0) size /= 2;
    return size;
}

// q (n), scales (n / group): values = q * scale, symmetric.
void quantize(std::span<const float> values, size_t group, std::vector<int8_t>& q, std::vector<float>& scales) {
    q.resize(values.size()), scales.resize(values.size() / group);
    for (size_t g = 0; g < scales.size(); g++) {
        const auto in = values.subspan(g * group, group);
        float largest = 0;
        for (const float value : in) largest = std::max(largest, std::abs(value));
        scales[g] = largest / 127;
        for (size_t i = 0; i < group; i++) {
            const float steps = scales[g] == 0 ? 0 : in[i] / scales[g];
            q[g * group + i] = int8_t(std::lrint(std::clamp(steps, -127.0f, 127.0f)));
        }
    }
}

class Llama2cFile {
public:
    explicit Llama2cFile(const fs::path& path);
    void read(const TensorSpec& spec, std::span<float> out) const;

    ModelConfig config;
    int version = 0, group_size = 1;

private:
    void read_values(const Place& place, std::span<float> out) const;

    InputFile file_;
    std::optional<Layout> layout_;
};

Llama2cFile::Llama2cFile(const fs::path& path) : file_(path) {
    const std::string name = path.string();
    KILN_CHECK(file_.size() >= kLegacyHeaderBytes, name, ": is not a model of llama2.c: ", file_.size(),
               " bytes are fewer than its header");
    Header header{};
    file_.read_at(0, header.data(), std::min(file_.size(), kHeaderBytes));
    const auto word = [&](size_t byte) {
        int32_t value;
        std::memcpy(&value, &header[byte], sizeof value);
        return value;
    };
    size_t at = 0;
    if (uint32_t(word(0)) == kMagic) {
        version = word(4), at = 8;
        KILN_CHECK(version == 1 || version == 2, name, ": has version ", version,
                   "; Kiln reads versions 0, 1 and 2 of llama2.c's models");
        KILN_CHECK(file_.size() >= kHeaderBytes, name, ": truncated: ", file_.size(),
                   " bytes are fewer than its header of ", kHeaderBytes, "; get it again");
    }
    std::array<int32_t, 7> words;
    for (size_t i = 0; i < words.size(); i++) words[i] = word(at + 4 * i);
    const auto [C, F, L, NH, NKV, signed_V, max_T] = words;
    const int64_t V = version == 0 ? std::abs(int64_t(signed_V)) : signed_V;
    const bool tied = version == 0 ? signed_V > 0 : header[kGroupSizeAt - 1] != 0;
    KILN_CHECK(C > 0 && NH > 0 && C % NH == 0 && V <= INT32_MAX, name, ": is not a model of llama2.c: a width of ", C,
               " with ", NH, " heads and a vocabulary of ", V, " makes no sense");
    config = llama(C, F, L, NH, NKV, int(V), max_T, tied);
    try {
        validate(config);
    } catch (const Error& error) {
        throw Error(concat(name, ": is not a model of llama2.c: ", error.what()));
    }
    if (version == 2) group_size = word(kGroupSizeAt);
    KILN_CHECK(group_size > 0 && C % group_size == 0 && F % group_size == 0, name, ": groups of ", group_size,
               " values do not divide rows of ", C, " and ", F, "; the file is damaged, get it again");
    layout_.emplace(config, version, group_size);
    KILN_CHECK(file_.size() == layout_->bytes, name, ": ",
               file_.size() < layout_->bytes ? "truncated" : "has bytes after its end", ": a model of this header has ",
               layout_->bytes, " bytes, the file has ", file_.size(), "; get it again");
}

void Llama2cFile::read_values(const Place& place, std::span<float> out) const {
    if (!place.quantized) return file_.read_at(place.byte, out.data(), out.size_bytes());
    const auto group = size_t(group_size);
    std::vector<int8_t> q;
    std::vector<float> scales;
    for (size_t done = 0; done < out.size(); done += q.size()) {
        q.resize(std::min(kChunkElems / group * group, out.size() - done)), scales.resize(q.size() / group);
        file_.read_at(place.byte + done, q.data(), q.size());
        file_.read_at(place.byte + place.elems() + done / group * sizeof(float), scales.data(),
                      scales.size() * sizeof(float));
        for (size_t i = 0; i < q.size(); i++) out[done + i] = float(q[i]) * scales[i / group];
    }
}

void Llama2cFile::read(const TensorSpec& spec, std::span<float> out) const {
    for (const Place& place : layout_->places) {
        if (place.spec.name != spec.name) continue;
        const auto values = out.subspan(place.row * spec.shape[1], place.elems());
        read_values(place, values);
        if (place.turns()) permute_heads(values, size_t(config.HS), spec.shape[1], false);
    }
}

// cos and sin of each position and frequency, which run.c skips.
void fill_freq_cis(const ModelConfig& c, std::span<float> out) {
    const size_t half = size_t(c.HS) / 2;
    for (size_t i = 0; i < out.size() / 2; i++) {
        const double angle = double(i / half) / std::pow(10000.0, 2.0 * double(i % half) / c.HS);
        out[i] = float(std::cos(angle)), out[out.size() / 2 + i] = float(std::sin(angle));
    }
}

Header make_header(const ModelConfig& c, int version, int group_size) {
    Header header{};
    size_t at = 0;
    const auto put = [&](int32_t value) {
        std::memcpy(&header[at], &value, sizeof value);
        at += sizeof value;
    };
    if (version > 0) put(int32_t(kMagic)), put(version);
    for (const int32_t word : {c.C, c.F, c.L, c.NH, c.NKV}) put(word);
    put(version == 0 && !c.tied_embeddings ? -c.V : c.V);
    put(c.max_T);
    if (version > 0) header[at++] = c.tied_embeddings;
    if (version == 2) put(group_size);
    return header;
}

}  // namespace

StoredModel open_llama2c(const fs::path& path) {
    const auto file = std::make_shared<const Llama2cFile>(path);
    return {.config = file->config,
            .files = files_beside(path.parent_path() / kLlama2cTokenizerName),
            .dtype = file->version == 2 ? "Q8_0" : "F32",
            .read = [file, path](const TensorSpec& spec, std::span<float> out) {
                file->read(spec, out);
                check_finite(path, spec, out);
            }};
}

void write_llama2c(const fs::path& path, const StoredModel& model, std::string_view type,
                   const ConversionProgress& progress) {
    constexpr std::string_view kTypes[] = {"f32", "f32-v1", "q8_0"};  // by version
    const auto version = type.empty() ? 0 : int(std::ranges::find(kTypes, type) - kTypes);
    if (version == std::ssize(kTypes)) {
        throw UsageError(
            concat("llama2.c's model files are f32 (version 0, for run.c), f32-v1 or q8_0 (for runq.c), "
                   "not ",
                   type));
    }
    const ModelConfig& c = model.config;
    check_model(c);
    const fs::path tokenizer_path = path.parent_path() / kLlama2cTokenizerName;
    KILN_CHECK(path != tokenizer_path, path.string(), ": is the name of the tokenizer beside a model; choose another");
    std::string tokenizer;
    if (const auto used = tokenizer_of(model.files)) {
        tokenizer = write_llama2c_tokenizer(*used, c.V);
        check_replaces_nothing(tokenizer_path, tokenizer);
    }

    const int group_size = version == 2 ? group_size_of(c) : 1;
    const Layout layout(c, version, group_size);
    const Header header = make_header(c, version, group_size);
    AtomicFile file(path);
    file.file().write(header.data(), version == 0 ? kLegacyHeaderBytes : kHeaderBytes);
    std::vector<float> values, scales;
    std::vector<int8_t> q;
    for (const Place& place : layout.places) {
        values.resize(place.spec.elems());
        if (place.part == Part::cos_and_sin) {
            fill_freq_cis(c, values);
        } else {
            model.read(place.spec, values);
        }
        const size_t cols = place.spec.shape[1];
        std::span<float> out = std::span(values).subspan(place.row * cols, place.elems());
        if (place.turns()) permute_heads(out, size_t(c.HS), cols, true);
        if (place.quantized) {
            quantize(out, size_t(group_size), q, scales);
            file.file().write(q.data(), q.size());
            out = scales;
        }
        file.file().write(out.data(), out.size_bytes());
        if (progress) progress(&place == &layout.places.back() ? layout.bytes : (&place + 1)->byte, layout.bytes);
    }
    if (!tokenizer.empty()) write_file_atomic(tokenizer_path, tokenizer);
    file.commit();
}

}  // namespace kiln
