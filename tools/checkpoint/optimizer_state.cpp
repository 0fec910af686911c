#include "tools/checkpoint/optimizer_state.h"

#include <algorithm>
#include <string>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/tensors.h"
#include "tools/formats/safetensors.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

constexpr size_t kChunkElems = size_t(1) << 20;

// Calls visit(name, arena, spec) for each tensor of the optimizer's file, in its order.
template <class Visit>
void for_each_state_tensor(const ModelConfig& config, Optimizer optimizer, Visit visit) {
    const std::vector<TensorSpec> table = param_table(config);
    for (const std::string_view state : optimizer_info(optimizer).states) {
        for (const TensorSpec& spec : table) visit(concat(state, ".", spec.name), Arena{state}, spec);
    }
}

// Calls visit(chunk, offset in the arena) with a buffer for each chunk of the tensor.
template <class Visit>
void for_each_chunk(const TensorSpec& spec, Visit visit) {
    std::vector<float> buffer;
    for (size_t done = 0; done < spec.elems(); done += buffer.size()) {
        buffer.resize(std::min(kChunkElems, spec.elems() - done));
        visit(buffer, done);
    }
}

// The least value that a state can have.
float least(std::string_view state) {
    return std::ranges::count(optimizer_info(Optimizer::adamw).squares, state) > 0 ? 0 : -FLT_MAX;
}

}  // namespace

FileDigest write_optimizer(const fs::path& path, const ModelState& model) {
    std::vector<SafetensorsWriter::Declared> declared;
    for_each_state_tensor(model.config, model.optimizer,
                          [&](const std::string& name, const Arena& arena, const TensorSpec& spec) {
                              declared.push_back({name, {spec.shape[0], spec.shape[1]}, least(arena.name)});
                          });
    SafetensorsWriter writer(path, declared);
    for_each_state_tensor(model.config, model.optimizer,
                          [&](const std::string&, const Arena& arena, const TensorSpec& spec) {
                              for_each_chunk(spec, [&](std::vector<float>& chunk, size_t begin) {
                                  model.read(arena, spec.offset + begin, chunk);
                                  writer.append(chunk);
                              });
                          });
    return writer.finish();
}

void read_optimizer(const fs::path& path, Engine& engine) {
    const SafetensorsFile file(path);
    size_t tensors = 0;
    for_each_state_tensor(engine.config(), engine.optimizer(),
                          [&](const std::string& name, const Arena& arena, const TensorSpec& spec) {
                              const StoredTensor* tensor = file.find(name);
                              KILN_CHECK(tensor, path.string(), ": lacks '", name, "'");
                              KILN_CHECK(tensor->shape == std::vector<uint64_t>({spec.shape[0], spec.shape[1]}),
                                         path.string(), ": tensor '", name, "' has shape ", shape_text(tensor->shape),
                                         "; the model asks for (", spec.shape[0], ", ", spec.shape[1], ")");
                              for_each_chunk(spec, [&](std::vector<float>& chunk, size_t begin) {
                                  file.read_finite(*tensor, begin, chunk, least(arena.name));
                                  engine.write(arena, spec.offset + begin, chunk);
                              });
                              tensors++;
                          });
    KILN_CHECK(file.tensors().size() == tensors, path.string(), ": holds ", file.tensors().size(),
               " tensors; the optimizer state of this model has ", tensors);
}

void verify_optimizer(const fs::path& path) {
    const SafetensorsFile file(path);
    for (const StoredTensor& tensor : file.tensors()) {
        file.verify_finite(tensor, least(std::string_view(tensor.name).substr(0, tensor.name.find('.'))));
    }
}

}  // namespace kiln
