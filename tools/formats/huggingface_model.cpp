#include "tools/formats/huggingface_model.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/checkpoint/manifest.h"
#include "tools/formats/huggingface.h"
#include "tools/formats/json_file.h"
#include "tools/formats/new_directory.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

struct Type {
    std::string_view name, stored, torch;  // in --type, in safetensors and in config.json
    uint64_t bytes;
};
constexpr Type kTypes[] = {{"f32", "F32", "float32", 4}, {"f16", "F16", "float16", 2}, {"bf16", "BF16", "bfloat16", 2}};

const Type& type_of(std::string_view name, const std::string& stored) {
    const auto* const found = name.empty() ? std::ranges::find(kTypes, std::string_view(stored), &Type::stored)
                                           : std::ranges::find(kTypes, name, &Type::name);
    return found == std::end(kTypes) ? kTypes[0] : *found;
}

// The tensors of each file, in order. A tensor is in one file, whatever its size.
std::vector<std::vector<HfTensor>> divide(std::vector<HfTensor> tensors, uint64_t elem_bytes, uint64_t max_bytes) {
    std::vector<std::vector<HfTensor>> files(1);
    uint64_t bytes = 0;
    for (HfTensor& tensor : tensors) {
        const uint64_t more = tensor.rows * tensor.cols * elem_bytes;
        if (bytes > 0 && bytes + more > max_bytes) files.emplace_back(), bytes = 0;
        bytes += more;
        files.back().push_back(std::move(tensor));
    }
    return files;
}

std::string file_name(size_t index, size_t files) {
    return files == 1 ? "model.safetensors" : formatted("model-%05zu-of-%05zu.safetensors", index + 1, files);
}

// Reads a tensor of the parameter table at a time.
class TensorValues {
public:
    explicit TensorValues(const StoredModel& model) : model_(model), specs_(param_table(model.config)) {
        values_.reserve(std::ranges::max(specs_, {}, &TensorSpec::elems).elems());
    }
    std::span<const float> operator()(size_t offset, size_t elems) {
        const TensorSpec& spec = *std::prev(std::ranges::upper_bound(specs_, offset, {}, &TensorSpec::offset));
        if (&spec != read_) {
            values_.resize(spec.elems());
            model_.read(spec, values_);
            read_ = &spec;
        }
        return std::span<const float>(values_).subspan(offset - spec.offset, elems);
    }

private:
    const StoredModel& model_;
    std::vector<TensorSpec> specs_;
    std::vector<float> values_;
    const TensorSpec* read_ = nullptr;  // the one in values_
};

}  // namespace

StoredModel open_hf(const fs::path& directory) {
    const ModelConfig config = read_model_config(directory);
    const std::string type = read_json(directory / "config.json").at("model_type");  // a string, says the line above
    const auto weights = std::make_shared<HfWeights>(ModelTensors(directory), config, type);
    const auto read = [weights](const TensorSpec& spec, std::span<float> out) {
        for (const HfTensor& tensor : weights->tensors()) {  // those that the parameter is divided into
            if (tensor.offset < spec.offset || tensor.offset >= spec.offset + spec.elems()) continue;
            weights->read(tensor, 0, out.subspan(tensor.offset - spec.offset, tensor.rows * tensor.cols));
        }
    };
    return {config, ModelFiles({}, directory), weights->dtype(), read};
}

void write_hf(const fs::path& directory, const StoredModel& model, std::string_view type,
              const ConversionProgress& progress) {
    write_hf_divided(directory, model, type, progress, kMaxWeightFileBytes);
}

void write_hf_divided(const fs::path& target, const StoredModel& model, std::string_view type_name,
                      const ConversionProgress& progress, uint64_t max_file_bytes) {
    const Type& type = type_of(type_name, model.dtype);
    const auto files = divide(hf_tensors(model.config, hf_model_type(model.config)), type.bytes, max_file_bytes);
    const uint64_t all = uint64_t(count_parameters(model.config)) * type.bytes;
    uint64_t done = 0;
    NewDirectory directory(target);
    TensorValues values(model);
    ordered_json index = {{"metadata", {{"total_size", all}}}, {"weight_map", ordered_json::object()}};
    for (size_t i = 0; i < files.size(); i++) {
        const std::string name = file_name(i, files.size());
        std::vector<SafetensorsWriter::Declared> declared;
        for (const HfTensor& tensor : files[i]) {
            declared.push_back({.name = tensor.name, .shape = tensor.shape, .dtype = std::string(type.stored)});
            index["weight_map"][tensor.name] = name;
        }
        SafetensorsWriter writer(directory.path() / name, declared);
        for (const HfTensor& tensor : files[i]) {
            append_hf_tensor(writer, tensor, [&](size_t offset, size_t elems) {
                done += elems * type.bytes;
                if (progress) progress(done, all);
                return values(offset, elems);
            });
        }
        writer.finish();
    }
    const auto write = [&](const std::string& name, const std::string& content) {
        write_synced(directory.path() / name, content);
    };
    if (files.size() > 1) write("model.safetensors.index.json", index.dump(2) + "\n");
    const ordered_json& ids = model.files.token_ids;
    write("config.json", hf_config(model.config, ids, std::string(type.torch)).dump(2) + "\n");
    write("generation_config.json", hf_generation_config(ids).dump(2) + "\n");
    for (const TokenizerKind::File& file : model.files.files) write(file.name, file.content);
    directory.commit();
}

}  // namespace kiln
