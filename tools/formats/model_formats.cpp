#include "tools/formats/model_formats.h"

#include <algorithm>

#include "tools/formats/gguf.h"
#include "tools/formats/huggingface_model.h"
#include "tools/formats/llama2c.h"
#include "tools/formats/llmc.h"

namespace kiln {

const std::vector<ModelFormat>& model_formats() {
    static const std::vector<ModelFormat> formats = {
        {"hf", open_hf, write_hf, {"f32", "f16", "bf16"}},
        {"gguf", open_gguf, write_gguf, {"f32", "f16", "bf16", "q8_0", "q4_0", "q4_k"}},
        {"llmc", open_llmc, write_llmc, {"f32", "bf16"}},
        {"llama2c", open_llama2c, write_llama2c, {"f32", "f32-v1", "q8_0"}},
    };
    return formats;
}

std::vector<std::string> model_format_names() {
    std::vector<std::string> names;
    for (const ModelFormat& format : model_formats()) names.push_back(format.name);
    return names;
}

const ModelFormat& model_format(std::string_view name) {
    return *std::ranges::find(model_formats(), name, &ModelFormat::name);
}

}  // namespace kiln
