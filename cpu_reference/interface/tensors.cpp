#include "cpu_reference/interface/tensors.h"

#include <algorithm>
#include <cmath>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/rng.h"

namespace kiln {

std::string tensor_name(const char* field, int layer) {
    return layer < 0 ? field : concat("block.", layer, ".", field);
}

std::vector<TensorSpec> param_table(const ModelConfig& config) {
    std::vector<TensorSpec> table;
    Params<float> unbound{};
    for_each_param(config, unbound, [&](float*&, const TensorSpec& spec) { table.push_back(spec); });
    return table;
}

void init_tensor(const ModelConfig& config, const TensorSpec& spec, size_t index, uint64_t seed, float* w) {
    const size_t n = spec.elems();
    if (spec.init == Init::ones || spec.init == Init::zeros) {
        std::fill(w, w + n, spec.init == Init::ones ? 1.0f : 0.0f);
        return;
    }
    const float std = spec.init == Init::normal ? config.init_std : config.init_std / std::sqrt(2.0f * float(config.L));
#pragma omp parallel for
    for (size_t i = 0; i < n; i += 4) {
        const Philox4 words =
            philox4x32(seed, uint32_t(i / 4), uint32_t(i / 4 >> 32), uint32_t(index), uint32_t(RngStream::init));
        float x[4];
        normal2(words.v[0], words.v[1], &x[0], &x[1]);
        normal2(words.v[2], words.v[3], &x[2], &x[3]);
        for (size_t j = 0; j < 4 && i + j < n; j++) w[i + j] = std * x[j];
    }
}

int64_t count_parameters(const ModelConfig& config) {
    const TensorSpec last = param_table(config).back();
    return int64_t(last.offset + last.elems());
}

std::vector<ActivationSpec> activation_table(const ModelConfig& config, const ActivationShape& shape) {
    std::vector<ActivationSpec> table;
    size_t offset = 0;
    Activations<float> unbound{};
    for_each_activation(config, shape, unbound, [&](float*&, const char* name, int layer, size_t elems) {
        table.push_back({tensor_name(name, layer), elems, offset});
        offset += (elems + 15) / 16 * 16;
    });
    return table;
}

size_t activation_elems(const ModelConfig& config, const ActivationShape& shape) {
    const std::vector<ActivationSpec> table = activation_table(config, shape);
    return table.back().offset + (table.back().elems + 15) / 16 * 16;
}

}  // namespace kiln
