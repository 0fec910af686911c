#pragma once
// Models for tests of file formats, and what stands at a place of a file.
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/fake_engine.h"
#include "tools/formats/stored_model.h"

namespace kiln {

// A model whose values are those of the engine.
inline StoredModel stored(FakeEngine& engine, ModelFiles files = {}) {
    return {engine.config(), std::move(files), "F32",
            [&engine](const TensorSpec& spec, std::span<float> out) { engine.read(Arena::params, spec.offset, out); }};
}

// All values, in the order of an arena.
inline std::vector<float> values_of(const StoredModel& model) {
    std::vector<float> values(size_t(count_parameters(model.config)));
    for (const TensorSpec& spec : param_table(model.config)) {
        model.read(spec, std::span(values).subspan(spec.offset, spec.elems()));
    }
    return values;
}

template <class T>
T value_at(const std::string& file, size_t byte) {
    T value;
    std::memcpy(&value, file.data() + byte, sizeof value);
    return value;
}

}  // namespace kiln
