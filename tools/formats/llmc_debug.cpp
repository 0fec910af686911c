#include "tools/formats/llmc_debug.h"

#include <algorithm>

#include "cpu_reference/interface/error.h"

namespace kiln {
namespace {

constexpr int32_t kMagic = 20240327, kVersion = 2;

}  // namespace

LlmcDebugState read_llmc_debug_state(const std::filesystem::path& path, const LlmcModelFile& model) {
    const InputFile file(path);
    const LlmcHeader header = read_llmc_header(file, kMagic, {kVersion}, "a debug state");
    const std::string name = path.string();
    const ModelConfig& c = model.config();
    LlmcDebugState state;
    state.B = header[2], state.T = header[3];
    KILN_CHECK(state.B > 0 && state.T > 0 && state.T <= c.max_T, name, ": says ", state.B, " sequences of ", state.T,
               " tokens, for a model with a context of ", c.max_T, "; the file is damaged, or of another model");
    const uint64_t N = uint64_t(state.B) * uint64_t(state.T), V = uint64_t(c.V);
    // At most N words for each of the tensors, so nothing overflows or is allocated that the file does not hold.
    const uint64_t words = (file.size() - kLlmcHeaderBytes) / sizeof(float);
    KILN_CHECK(
        N <= words / (2 + V) && words == N * (2 + V) + 1 + model.layout().elems && file.size() % sizeof(float) == 0,
        name, ": has ", file.size(), " bytes, which is not the debug state of ", state.B, " x ", state.T,
        " tokens of this model; the file is damaged, or of another model");
    uint64_t at = kLlmcHeaderBytes;
    const auto read = [&](auto& values, uint64_t elems) {
        values.resize(elems);
        file.read_at(at, values.data(), elems * sizeof values[0]);
        at += elems * sizeof values[0];
    };
    read(state.tokens, N);
    read(state.targets, N);
    const auto valid = [&](int token) { return token >= 0 && token < c.V; };
    KILN_CHECK(std::ranges::all_of(state.tokens, valid) && std::ranges::all_of(state.targets, valid), name,
               ": has a token that the model's vocabulary of ", c.V,
               " lacks; the file is damaged, or of another model");
    read(state.logits, N * V);
    std::vector<float> loss;
    read(loss, 1);
    state.loss = loss[0];
    state.gradients.resize(size_t(count_parameters(c)));
    for (const auto& [spec, first] : model.layout().tensors) {
        file.read_at(at + first * sizeof(float), &state.gradients[spec.offset], spec.elems() * sizeof(float));
    }
    return state;
}

void write_llmc_debug_state(const std::filesystem::path& path, const ModelConfig& config, const LlmcDebugState& state) {
    check_llmc_model(config);
    const LlmcHeader header{kMagic, kVersion, state.B, state.T};
    AtomicFile file(path);
    file.file().write(header.data(), sizeof header);
    file.file().write(state.tokens.data(), state.tokens.size() * sizeof(int));
    file.file().write(state.targets.data(), state.targets.size() * sizeof(int));
    file.file().write(state.logits.data(), state.logits.size() * sizeof(float));
    file.file().write(&state.loss, sizeof state.loss);
    write_llmc_tensors(
        file.file(), LlmcLayout(config, llmc_padded_vocabulary(config.V)), false,
        [&](const TensorSpec& spec, std::span<float> out) {
            std::copy_n(&state.gradients[spec.offset], out.size(), out.begin());
        },
        [](uint64_t) {});
    file.commit();
}

LlmcDebugState compute_debug_state(Engine& engine, int B, int T, std::vector<int> tokens, std::vector<int> targets) {
    const ModelConfig& c = engine.config();
    const size_t V = size_t(c.V), N = size_t(B) * T;
    LlmcDebugState state;
    state.B = B, state.T = T, state.tokens = std::move(tokens), state.targets = std::move(targets);
    state.logits.resize(N * V), state.gradients.resize(size_t(count_parameters(c)));
    engine.zero_gradients();
    engine.take_loss();
    engine.forward_backward({state.tokens.data(), state.targets.data(), 0, true}, 1.0f / float(N), 0);
    const LossSum loss = engine.take_loss();
    state.loss = float(loss.sum / double(loss.tokens));
    engine.gradient_norm();  // which completes the gradients
    engine.read(Arena::gradients, 0, state.gradients);
    engine.open_cache(1, T);
    for (size_t i = 0; i < N; i++) {
        if (i % T == 0) engine.clear_slot(0);
        engine.prefill(0, std::span(state.tokens).subspan(i, 1), &state.logits[i * V]);
    }
    engine.open_cache(0, 0);
    return state;
}

}  // namespace kiln
