#include "cuda/engine/arenas.h"

#include <algorithm>

#include "cpu_reference/interface/engine_checks.h"
#include "cuda/device/element_types.h"
#include "cuda/device/transfer.h"
#include "cuda/engine/decoder.h"

namespace kiln {

template <class E, class G, class M>
size_t DeviceArenas<E, G, M>::elems(const ModelConfig& config) {
    return size_t(count_parameters(padded(config)));
}

template <class E, class G, class M>
DeviceArenas<E, G, M>::DeviceArenas(const ModelConfig& config, const EngineOptions& options, cudaStream_t stream)
    : config_(config),
      optimizer_(options.optimizer),
      stream_(stream),
      table_(param_table(config)),
      device_table_(param_table(padded(config))) {
    const size_t n = elems(config);
    const ModelConfig padded_config = padded(config);
    params_ = DeviceBuffer<E>(n);
    param_ = bind_params(padded_config, params_.get());
    clear(params_.get(), n, stream);
    if (!options.training) return;
    // The update is one launch over the whole arena.
    for (const TensorSpec& spec : table_) {
        KILN_CHECK(spec.trainable && updates(optimizer_, spec.group), "engine: ", spec.name,
                   " is frozen or has no optimizer, which the CUDA engine does not support");
    }
    if (options.master_weights && !std::is_same_v<E, float>) {
        master_ = DeviceBuffer<float>(n);
        clear(master_.get(), n, stream);
    }
    gradients_ = DeviceBuffer<G>(n);
    gradient_ = bind_params(padded_config, gradients_.get());
    for (size_t i = 0; i < optimizer_info(optimizer_).states.size(); i++) {
        clear(states_.emplace_back(n).get(), n, stream);
    }
    std::vector<size_t> switches;
    bool decays = true;
    for (const TensorSpec& spec : device_table_) {
        if (spec.decays() == decays) continue;
        switches.push_back(spec.offset);
        decays = !decays;
    }
    decay_switches_ = DeviceBuffer<size_t>(switches.size());
    CUDA_CHECK(cudaMemcpyAsync(decay_switches_.get(), switches.data(), decay_switches_.bytes(), cudaMemcpyHostToDevice,
                               stream));
    CUDA_CHECK(cudaStreamSynchronize(stream));  // before `switches` is gone
}

template <class E, class G, class M>
template <class Visit>
void DeviceArenas<E, G, M>::for_each_stretch(size_t offset, size_t n, Visit visit) const {
    const size_t elems = size_t(count_parameters(config_));
    check_span(offset, n, elems);
    for (size_t i = 0; i < table_.size(); i++) {
        const size_t begin = std::max(offset, table_[i].offset);
        const size_t end = std::min(offset + n, table_[i].offset + table_[i].elems());
        if (begin < end) visit(device_table_[i].offset + (begin - table_[i].offset), begin - offset, end - begin);
    }
}

template <class E, class G, class M>
void DeviceArenas<E, G, M>::read(const Arena& arena, size_t offset, std::span<float> out, float gradient_scale) const {
    for_each_stretch(offset, out.size(), [&](size_t from, size_t to, size_t n) {
        float* const into = out.data() + to;
        if (arena == Arena::params) {
            if (master_.size() > 0) return download(into, master_.get() + from, n, 1, stream_);
            return download(into, params_.get() + from, n, 1, stream_);
        }
        if (arena == Arena::gradients) {
            if (gradient_scale == 0) return void(std::fill_n(into, n, 0.0f));
            return download(into, gradients_.get() + from, n, gradient_scale, stream_);
        }
        download(into, states_[state_index(optimizer_, arena.name)].get() + from, n, 1, stream_);
    });
}

template <class E, class G, class M>
void DeviceArenas<E, G, M>::write(const Arena& arena, size_t offset, std::span<const float> in, float gradient_scale) {
    for_each_stretch(offset, in.size(), [&](size_t to, size_t from, size_t n) {
        const float* const values = in.data() + from;
        if (arena == Arena::params) {
            if (master_.size() > 0) upload(master_.get() + to, values, n, 1, stream_);
            return upload(params_.get() + to, values, n, 1, stream_);
        }
        if (arena == Arena::gradients) {
            return upload(gradients_.get() + to, values, n, 1 / gradient_scale, stream_);
        }
        upload(states_[state_index(optimizer_, arena.name)].get() + to, values, n, 1, stream_);
    });
}

template <class E, class G, class M>
void DeviceArenas<E, G, M>::init(uint64_t seed) {
    std::vector<float> w;
    for (size_t index = 0; index < table_.size(); index++) {
        w.resize(table_[index].elems());
        init_tensor(config_, table_[index], index, seed, w.data());
        write(Arena::params, table_[index].offset, w, 1);
    }
    for (DeviceBuffer<M>& state : states_) clear(state.get(), state.size(), stream_);
}

template <class E, class G, class M>
void DeviceArenas<E, G, M>::clear_gradients() {
    clear(gradients_.get(), gradients_.size(), stream_);
}

template <class E, class G, class M>
void DeviceArenas<E, G, M>::clear_embedding_gradients() {
    const size_t C = size_t(config_.C);
    if (gradient_.wpe) clear(gradient_.wpe, config_.max_T * C, stream_);
    if (!config_.tied_embeddings) clear(gradient_.wte, padded_vocab(config_) * C, stream_);
}

template <class E, class G, class M>
void DeviceArenas<E, G, M>::update(const OptimizerStep& step, const float* grad_scale, const int* non_finite,
                                   uint64_t rounding_seed) {
    switch (optimizer_) {
        case Optimizer::adamw: {
            const AdamWArena<E, G, M> arena{.params = params_.get(),
                                            .master = master_.size() > 0 ? master_.get() : nullptr,
                                            .m = states_[0].get(),
                                            .v = states_[1].get(),
                                            .grads = gradients_.get(),
                                            .n = params_.size(),
                                            .decay_switches = decay_switches_.get(),
                                            .switches = int(decay_switches_.size()),
                                            .grad_scale = grad_scale,
                                            .non_finite = non_finite};
            adamw(arena, adamw_step_size(step), {.seed = rounding_seed, .step = uint64_t(step.t)}, stream_);
            return;
        }
    }
}

#define KILN_ARENAS(E, G)                     \
    template class DeviceArenas<E, G, float>; \
    template class DeviceArenas<E, G, __nv_bfloat16>;
KILN_FOR_GRADIENT_TYPES(KILN_ARENAS)

}  // namespace kiln
