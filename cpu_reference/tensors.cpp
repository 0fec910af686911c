#include "cpu_reference/tensors.h"

#include "cpu_reference/error.h"

namespace kiln {
namespace {

std::string full_name(const char* name, int layer) {
    return layer < 0 ? name : concat("block.", layer, ".", name);
}

}  // namespace

std::vector<TensorSpec> param_table(const ModelConfig& config) {
    std::vector<TensorSpec> table;
    size_t offset = 0;
    Params<float> unbound{};
    for_each_param(config, unbound, [&](float*&, const char* name, int layer, size_t rows, size_t cols, Init init) {
        table.push_back({full_name(name, layer), layer, {rows, cols}, init, offset});
        offset += rows * cols;
    });
    return table;
}

int64_t count_parameters(const ModelConfig& config) {
    int64_t count = 0;
    Params<float> unbound{};
    for_each_param(config, unbound,
                   [&](float*&, const char*, int, size_t rows, size_t cols, Init) { count += int64_t(rows * cols); });
    return count;
}

std::vector<ActivationSpec> activation_table(const ModelConfig& config, const ActivationShape& shape) {
    std::vector<ActivationSpec> table;
    size_t offset = 0;
    Activations<float> unbound{};
    for_each_activation(config, shape, unbound, [&](float*&, const char* name, int layer, size_t elems) {
        table.push_back({full_name(name, layer), elems, offset});
        offset += (elems + 15) / 16 * 16;
    });
    return table;
}

size_t activation_elems(const ModelConfig& config, const ActivationShape& shape) {
    const std::vector<ActivationSpec> table = activation_table(config, shape);
    return table.back().offset + (table.back().elems + 15) / 16 * 16;
}

}  // namespace kiln
