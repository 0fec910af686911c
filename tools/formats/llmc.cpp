#include "tools/formats/llmc.h"

#include <algorithm>
#include <memory>
#include <optional>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"
#include "tokenizer/formats/llmc.h"
#include "tools/formats/foreign_file.h"
#include "tools/formats/safetensors.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

constexpr int32_t kMagic = 20240326, kFloat32 = 3, kBfloat16 = 5;
constexpr size_t kChunkElems = size_t(1) << 20;

void write_values(OutputFile& file, const std::string& tensor, std::span<const float> values, bool bfloat16) {
    if (!bfloat16) return file.write(values.data(), values.size_bytes());
    std::vector<uint16_t> chunk;
    for (size_t done = 0; done < values.size(); done += chunk.size()) {
        chunk.resize(std::min(kChunkElems, values.size() - done));
        std::ranges::transform(values.subspan(done, chunk.size()), chunk.begin(), float_to_bfloat16);
        const auto infinite = std::ranges::find_if(chunk, [](uint16_t bits) { return (bits & 0x7fff) == 0x7f80; });
        KILN_CHECK(infinite == chunk.end(), file.path().string(), ": '", tensor, "' holds ",
                   values[done + size_t(infinite - chunk.begin())],
                   ", which is beyond the range of bfloat16; write it with --type f32");
        file.write(chunk.data(), chunk.size() * sizeof(uint16_t));
    }
}

// GPT-2 of these dimensions.
ModelConfig gpt2(int L, int C, int NH, int V, int max_T) {
    ModelConfig c;
    c.L = L, c.C = C, c.NH = c.NKV = NH, c.HS = C / NH, c.F = 4 * C, c.V = V, c.max_T = max_T;
    return c;
}

}  // namespace

LlmcLayout::LlmcLayout(const ModelConfig& config, int padded_V) {
    const std::vector<TensorSpec> table = param_table(config);
    // The parameters of a block follow each other in the table; in the file, a parameter of all blocks does.
    const auto first = std::ranges::find(table, 0, &TensorSpec::layer) - table.begin();
    const auto a_block = std::ranges::count(table, 0, &TensorSpec::layer), last = first + a_block * config.L;
    const auto add = [&](const TensorSpec& spec) {
        tensors.push_back({spec, elems});
        elems += spec.elems();
        if (spec.name == "wte") elems += uint64_t(padded_V - config.V) * spec.shape[1];
    };
    std::for_each(table.begin(), table.begin() + first, add);
    for (auto field = first; field < first + a_block; field++) {
        for (auto at = field; at < last; at += a_block) add(table[size_t(at)]);
    }
    std::for_each(table.begin() + last, table.end(), add);
}

uint64_t LlmcLayout::find(size_t arena_offset) const {
    const auto found = std::ranges::find_if(tensors, [&](const Tensor& tensor) {
        return arena_offset >= tensor.spec.offset && arena_offset < tensor.spec.offset + tensor.spec.elems();
    });
    KILN_CHECK(found != tensors.end(), "the model has no element ", arena_offset);
    return found->first + (arena_offset - found->spec.offset);
}

void write_llmc_tensors(OutputFile& file, const LlmcLayout& layout, bool bfloat16,
                        const std::function<void(const TensorSpec& spec, std::span<float> out)>& read,
                        const std::function<void(uint64_t bytes)>& written) {
    std::vector<float> values;
    for (size_t i = 0; i < layout.tensors.size(); i++) {
        const auto& [spec, first] = layout.tensors[i];
        const uint64_t end = i + 1 < layout.tensors.size() ? layout.tensors[i + 1].first : layout.elems;
        values.assign(end - first, 0);
        read(spec, std::span(values).first(spec.elems()));
        write_values(file, spec.name, values, bfloat16);
        written(values.size() * (bfloat16 ? sizeof(uint16_t) : sizeof(float)));
    }
}

LlmcHeader read_llmc_header(const InputFile& file, int32_t magic, std::initializer_list<int32_t> versions,
                            std::string_view what) {
    const std::string name = file.path().string();
    KILN_CHECK(file.size() >= kLlmcHeaderBytes, name, ": is not ", what, " of llm.c: ", file.size(),
               " bytes are fewer than its header of ", kLlmcHeaderBytes);
    LlmcHeader header;
    file.read_at(0, header.data(), sizeof header);
    KILN_CHECK(header[0] == magic, name, ": is not ", what, " of llm.c: it begins with ", header[0], ", not with ",
               magic);
    std::vector<std::string> known;
    for (const int32_t version : versions) known.push_back(std::to_string(version));
    KILN_CHECK(std::ranges::count(versions, header[1]) > 0, name, ": has version ", header[1], "; Kiln reads version ",
               join(known, " and "), " of ", what, " of llm.c; write it again with a program of these versions");
    return header;
}

LlmcModelFile::LlmcModelFile(const fs::path& path) : file_(path) {
    const LlmcHeader header = read_llmc_header(file_, kMagic, {kFloat32, kBfloat16}, "a model");
    const std::string name = path.string();
    const auto [max_T, V, L, NH, C, padded_V] =
        std::tuple(header[2], header[3], header[4], header[5], header[6], header[7]);
    KILN_CHECK(C > 0 && NH > 0 && C % NH == 0, name, ": the header makes no sense: a width of ", C, " with ", NH,
               " heads; the file is damaged, get it again");
    KILN_CHECK(C <= INT32_MAX / 4, name, ": the header says a width of ", C, "; the file is damaged, get it again");
    config_ = gpt2(L, C, NH, V, max_T);
    try {
        validate(config_);
    } catch (const Error& error) {
        throw Error(concat(name, ": ", error.what()));
    }
    KILN_CHECK(padded_V >= V, name, ": has ", padded_V, " rows of embeddings for a vocabulary of ", V,
               "; the file is damaged, get it again");
    bfloat16_ = header[1] == kBfloat16;
    layout_.emplace(config_, padded_V);
    const uint64_t expected = kLlmcHeaderBytes + layout_->elems * (bfloat16_ ? 2 : 4);
    KILN_CHECK(file_.size() == expected, name, ": ", file_.size() < expected ? "truncated" : "has bytes after its end",
               ": a model of this header has ", expected, " bytes, the file has ", file_.size(), "; get it again");
}

void LlmcModelFile::read(size_t arena_offset, std::span<float> out) const {
    const uint64_t first = layout_->find(arena_offset);
    if (!bfloat16_) return file_.read_at(kLlmcHeaderBytes + first * sizeof(float), out.data(), out.size_bytes());
    std::vector<uint16_t> chunk;
    for (size_t done = 0; done < out.size(); done += chunk.size()) {
        chunk.resize(std::min(kChunkElems, out.size() - done));
        file_.read_at(kLlmcHeaderBytes + (first + done) * sizeof(uint16_t), chunk.data(),
                      chunk.size() * sizeof(uint16_t));
        std::ranges::transform(chunk, out.begin() + ptrdiff_t(done), bfloat16_to_float);
    }
}

void check_llmc_model(const ModelConfig& config) {
    ModelConfig wanted = gpt2(config.L, config.C, config.NH, config.V, config.max_T);
    wanted.dropout_embedding = config.dropout_embedding, wanted.dropout_residual = config.dropout_residual;
    wanted.dropout_attention = config.dropout_attention, wanted.init_std = config.init_std;
    KILN_CHECK(config == wanted, "llm.c's files hold only GPT-2's architecture; this model is ", describe(config),
               ", and there it would be ", describe(wanted), "; export it to another format");
}

int llmc_padded_vocabulary(int V) {
    return (V + 127) / 128 * 128;
}

bool is_llmc_model(const fs::path& path) {
    try {
        const InputFile file(path);
        int32_t magic = 0;
        if (file.size() >= kLlmcHeaderBytes) file.read_at(0, &magic, sizeof magic);
        return magic == kMagic;
    } catch (const Error&) {
        return false;
    }
}

StoredModel open_llmc(const fs::path& path) {
    const auto file = std::make_shared<const LlmcModelFile>(path);
    return {.config = file->config(),
            .files = ModelFiles({}, path),
            .dtype = file->bfloat16() ? "BF16" : "F32",
            .read = [file, path](const TensorSpec& spec, std::span<float> out) {
                file->read(spec.offset, out);
                check_finite(path, spec, out);
            }};
}

void write_llmc(const fs::path& path, const StoredModel& model, std::string_view type,
                const ConversionProgress& progress) {
    const bool bfloat16 = type.empty() ? model.dtype == "BF16" : type == "bf16";
    if (!type.empty() && !bfloat16 && type != "f32") {
        throw UsageError(concat("llm.c's model files are f32 or bf16, not ", type));
    }
    const ModelConfig& c = model.config;
    check_llmc_model(c);
    const fs::path tokenizer_path = path.parent_path() / kLlmcTokenizerName;
    KILN_CHECK(path != tokenizer_path, path.string(), ": is the name of the tokenizer beside a model; choose another");
    std::string tokenizer;
    if (const auto used = tokenizer_of(model.files); used && is_byte_level(*used)) {
        tokenizer = write_llmc_tokenizer(*used);
        check_replaces_nothing(tokenizer_path, tokenizer);
    }

    const int padded_V = llmc_padded_vocabulary(c.V);
    const LlmcLayout layout(c, padded_V);
    const uint64_t all = kLlmcHeaderBytes + layout.elems * (bfloat16 ? sizeof(uint16_t) : sizeof(float));
    uint64_t done = kLlmcHeaderBytes;
    LlmcHeader header{kMagic, bfloat16 ? kBfloat16 : kFloat32, c.max_T, c.V, c.L, c.NH, c.C, padded_V};
    AtomicFile file(path);
    file.file().write(header.data(), sizeof header);
    write_llmc_tensors(file.file(), layout, bfloat16, model.read, [&](uint64_t bytes) {
        done += bytes;
        if (progress) progress(done, all);
    });
    if (!tokenizer.empty()) write_file_atomic(tokenizer_path, tokenizer);
    file.commit();
}

}  // namespace kiln
