#include "cuda/engine/arenas.h"

#include <algorithm>

#include "cpu_reference/interface/engine_checks.h"
#include "cpu_reference/interface/error.h"
#include "cuda/device/element_types.h"
#include "cuda/device/transfer.h"
#include "cuda/engine/decoder.h"

namespace kiln {
namespace {

int stage_of(const EngineOptions& options) {
    return options.ranks > 1 && options.training ? options.zero_stage : 0;
}

// What read_parts broadcasts at once.
size_t chunk_elems(const ArenaLayout& layout) {
    return layout.parts > 1 ? std::min(layout.part_elems(), kTransferChunkBytes / sizeof(float)) : 0;
}

ArenaLayout layout_of(const ModelConfig& config, const EngineOptions& options, int rank) {
    const bool divided = stage_of(options) > 0;
    return {padded(config), divided ? options.ranks : 1, divided ? rank : 0};
}

}  // namespace

template <class E, class G, class M>
DeviceArenas<E, G, M>::DeviceArenas(const ModelConfig& config, const EngineOptions& options, Communicator* ranks,
                                    cudaStream_t stream)
    : config_(config),
      optimizer_(options.optimizer),
      stage_(stage_of(options)),
      stream_(stream),
      table_(param_table(config)),
      layout_(layout_of(config, options, ranks ? ranks->rank() : 0)) {
    KILN_CHECK(options.ranks == (ranks ? ranks->size() : 1), "engine: EngineOptions::ranks is ", options.ranks,
               ", but there are ", ranks ? ranks->size() : 1);
    const ModelConfig padded_config = padded(config);
    params_ = BucketMemory<E>(layout_, stage_ == 3);
    param_ = bind_params(padded_config, layout_, params_);
    clear(params_.data(), params_.elems(), stream);
    if (!options.training) return;
    // The update is one launch over whole buckets.
    for (const TensorSpec& spec : table_) {
        KILN_CHECK(spec.trainable && updates(optimizer_, spec.group), "engine: ", spec.name,
                   " is frozen or has no optimizer, which the CUDA engine does not support");
    }
    const size_t part = layout_.part_elems();
    const auto zeroed = [&]<class T>(DeviceBuffer<T>& buffer) {
        buffer = DeviceBuffer<T>(part);
        clear(buffer.get(), part, stream);
    };
    if (stage_ == 3) zeroed(params_part_);
    if (options.master_weights && !std::is_same_v<E, float>) zeroed(master_);
    gradients_ = BucketMemory<G>(layout_, stage_ >= 2);
    gradient_ = bind_params(padded_config, layout_, gradients_);
    clear(gradients_.data(), gradients_.elems(), stream);  // no pass writes the padding between buckets
    if (stage_ >= 2) zeroed(gradients_part_);
    for (size_t i = 0; i < optimizer_info(optimizer_).states.size(); i++) zeroed(states_.emplace_back());
    find_pieces();
    sums_ = DeviceBuffer<float>(pieces_.size());
    if (chunk_elems(layout_) > 0) chunk_ = DeviceBuffer<float>(chunk_elems(layout_));
    if (options.ranks == 1) return;
    const auto waits = ranks->waiting();  // NCCL connects the ranks
    exchange_ = std::make_unique<Exchange<E, G>>(
        *ranks, layout_, stage_, options.narrow_reduce,
        ExchangedMemory<E, G>{&params_, params_part_.get(), &gradients_, gradients_part_.get()}, stream);
}

template <class E, class G, class M>
std::vector<MemoryItem> DeviceArenas<E, G, M>::plan(const ModelConfig& config, const EngineOptions& options) {
    const int stage = stage_of(options);
    const ArenaLayout layout = layout_of(config, options, 0);
    const size_t part = layout.part_elems();
    std::vector<MemoryItem> plan = {
        {"parameters", (BucketMemory<E>::elems(layout, stage == 3) + (stage == 3 ? part : 0)) * sizeof(E)}};
    if (!options.training) return plan;
    if (!std::is_same_v<E, float> && options.master_weights) plan.push_back({"master weights", part * sizeof(float)});
    plan.push_back({"gradients", (BucketMemory<G>::elems(layout, stage >= 2) + (stage >= 2 ? part : 0)) * sizeof(G)});
    plan.push_back({"optimizer state", optimizer_info(options.optimizer).states.size() * part * sizeof(M)});
    if (options.ranks > 1) {
        plan.push_back({"exchanged buckets", Exchange<E, G>::bytes(layout, stage, options.narrow_reduce) +
                                                 chunk_elems(layout) * sizeof(float)});
    }
    return plan;
}

// Weight decay of a piece switches where it does in the arena.
template <class E, class G, class M>
void DeviceArenas<E, G, M>::find_pieces() {
    std::vector<size_t> switches;
    for (const Stretch& at : layout_.own()) {
        const size_t first = switches.size();
        bool decays = true;
        for (const TensorSpec& spec : layout_.tensors) {
            if (spec.offset + spec.elems() <= at.begin || spec.offset >= at.begin + at.elems) continue;
            if (spec.decays() == decays) continue;
            switches.push_back(std::max(spec.offset, at.begin) - at.begin);
            decays = !decays;
        }
        pieces_.push_back({at, first, switches.size() - first});
    }
    decay_switches_ = DeviceBuffer<size_t>(switches.size());
    CUDA_CHECK(cudaMemcpyAsync(decay_switches_.get(), switches.data(), decay_switches_.bytes(), cudaMemcpyHostToDevice,
                               stream_));
    CUDA_CHECK(cudaStreamSynchronize(stream_));  // before `switches` is gone
}

template <class E, class G, class M>
E* DeviceArenas<E, G, M>::own_params(const Stretch& at) const {
    return stage_ == 3 ? params_part_.get() + at.begin_in_part : params_.data() + at.begin;
}

template <class E, class G, class M>
G* DeviceArenas<E, G, M>::own_grads(const Stretch& at) const {
    return stage_ >= 2 ? gradients_part_.get() + at.begin_in_part : gradients_.data() + at.begin;
}

template <class E, class G, class M>
template <class Visit>
void DeviceArenas<E, G, M>::for_each_stretch(size_t offset, size_t n, Visit visit) const {
    const size_t elems = size_t(count_parameters(config_));
    check_span(offset, n, elems);
    for (size_t i = 0; i < table_.size(); i++) {
        const size_t begin = std::max(offset, table_[i].offset);
        const size_t end = std::min(offset + n, table_[i].offset + table_[i].elems());
        if (begin < end) visit(layout_.tensors[i].offset + (begin - table_[i].offset), begin - offset, end - begin);
    }
}

template <class E, class G, class M>
template <class At>
void DeviceArenas<E, G, M>::read_parts(At at, size_t offset, std::span<float> out, float scale) const {
    using T = std::remove_cvref_t<decltype(*at(Stretch{}))>;
    static_assert(sizeof(T) <= sizeof(float));
    T* const chunk = reinterpret_cast<T*>(chunk_.get());
    layout_.for_each_part(offset, out.size(), [&](int part, size_t in_part, size_t first, size_t n) {
        for (size_t done = 0, count; done < n; done += count) {
            count = std::min(n - done, chunk_.size());
            if (part == layout_.part) {
                const T* const from = at(Stretch{offset + first + done, count, in_part + done});
                CUDA_CHECK(cudaMemcpyAsync(chunk, from, count * sizeof(T), cudaMemcpyDeviceToDevice, stream_));
            }
            exchange_->communicator().broadcast(chunk, count, part, stream_);
            download(out.data() + first + done, chunk, count, scale, stream_);
        }
    });
}

template <class E, class G, class M>
template <class At>
void DeviceArenas<E, G, M>::write_part(At at, size_t offset, std::span<const float> in, float scale) {
    layout_.for_each_part(offset, in.size(), [&](int part, size_t in_part, size_t first, size_t n) {
        if (part == layout_.part) upload(at(Stretch{offset + first, n, in_part}), in.data() + first, n, scale, stream_);
    });
}

template <class E, class G, class M>
void DeviceArenas<E, G, M>::read(const Arena& arena, size_t offset, std::span<float> out, float gradient_scale) const {
    if (exchange_) {
        exchange_->join();
        exchange_->communicator().check();
    }
    for_each_stretch(offset, out.size(), [&](size_t from, size_t to, size_t n) {
        const std::span<float> into = out.subspan(to, n);
        const auto read = [&](auto at, float scale = 1) {
            if (layout_.parts > 1) return read_parts(at, from, into, scale);
            download(into.data(), at(Stretch{from, n, from}), n, scale, stream_);
        };
        if (arena == Arena::params) {
            if (master_.size() > 0) return read([&](const Stretch& at) { return master_.get() + at.begin_in_part; });
            return read([&](const Stretch& at) { return own_params(at); });
        }
        if (arena == Arena::gradients) {
            if (gradient_scale == 0) return void(std::ranges::fill(into, 0.0f));
            return read([&](const Stretch& at) { return own_grads(at); }, gradient_scale);
        }
        const M* const state = states_[state_index(optimizer_, arena.name)].get();
        read([&](const Stretch& at) { return state + at.begin_in_part; });
    });
}

template <class E, class G, class M>
void DeviceArenas<E, G, M>::write(const Arena& arena, size_t offset, std::span<const float> in, float gradient_scale) {
    if (exchange_) exchange_->join();
    for_each_stretch(offset, in.size(), [&](size_t to, size_t from, size_t n) {
        const std::span<const float> values = in.subspan(from, n);
        const auto write = [&](auto at, float scale = 1) { write_part(at, to, values, scale); };
        if (arena == Arena::params) {
            if (master_.size() > 0) write([&](const Stretch& at) { return master_.get() + at.begin_in_part; });
            if (stage_ < 3) return upload(params_.data() + to, values.data(), n, 1, stream_);
            return write([&](const Stretch& at) { return own_params(at); });
        }
        if (arena == Arena::gradients) {
            return write([&](const Stretch& at) { return own_grads(at); }, 1 / gradient_scale);
        }
        M* const state = states_[state_index(optimizer_, arena.name)].get();
        write([&](const Stretch& at) { return state + at.begin_in_part; });
    });
    if (exchange_ && arena == Arena::params) exchange_->written();
}

template <class E, class G, class M>
std::vector<ArenaStretch> DeviceArenas<E, G, M>::own_state() const {
    std::vector<ArenaStretch> own;
    for (size_t i = 0; i < table_.size(); i++) {
        layout_.for_each_part(layout_.tensors[i].offset, table_[i].elems(),
                              [&](int part, size_t, size_t first, size_t n) {
                                  if (part == layout_.part) own.push_back({table_[i].offset + first, n});
                              });
    }
    return own;
}

template <class E, class G, class M>
void DeviceArenas<E, G, M>::read_own_state(const Arena& arena, size_t offset, std::span<float> out) const {
    if (exchange_) {
        exchange_->join();
        exchange_->communicator().check();
    }
    const M* const state = states_[state_index(optimizer_, arena.name)].get();
    for_each_stretch(offset, out.size(), [&](size_t from, size_t to, size_t n) {
        layout_.for_each_part(from, n, [&](int part, size_t in_part, size_t first, size_t count) {
            KILN_CHECK(part == layout_.part, "engine: rank ", layout_.part, " has not the whole stretch at ", offset);
            download(out.data() + to + first, state + in_part, count, 1, stream_);
        });
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
    if (stage_ >= 2) return clear(gradients_part_.get(), gradients_part_.size(), stream_);
    clear(gradients_.data(), gradients_.elems(), stream_);
}

template <class E, class G, class M>
void DeviceArenas<E, G, M>::clear_embedding_gradients() {
    const size_t C = size_t(config_.C);
    if (gradient_.wpe) clear(gradient_.wpe, config_.max_T * C, stream_);
    if (!config_.tied_embeddings) clear(gradient_.wte, padded_vocab(config_) * C, stream_);
}

template <class E, class G, class M>
void DeviceArenas<E, G, M>::sum_of_squares(float* sum, float* scratch) const {
    for (size_t i = 0; i < pieces_.size(); i++) {
        const Stretch& at = pieces_[i].at;
        kiln::sum_of_squares(pieces_.size() == 1 ? sum : sums_.get() + i, scratch, own_grads(at), at.elems, stream_);
    }
    if (pieces_.size() == 1) return;
    sum_losses(sum, sums_.get(), int(pieces_.size()), stream_);
    exchange_->sum(sum);
}

template <class E, class G, class M>
void DeviceArenas<E, G, M>::update(const OptimizerStep& step, const float* grad_scale, const int* non_finite,
                                   uint64_t rounding_seed) {
    for (size_t i = 0; i < pieces_.size(); i++) {
        const auto& [at, first_switch, switches] = pieces_[i];
        switch (optimizer_) {
            case Optimizer::adamw: {
                const AdamWArena<E, G, M> arena{
                    .params = own_params(at),
                    .master = master_.size() > 0 ? master_.get() + at.begin_in_part : nullptr,
                    .m = states_[0].get() + at.begin_in_part,
                    .v = states_[1].get() + at.begin_in_part,
                    .grads = own_grads(at),
                    .n = at.elems,
                    .decay_switches = decay_switches_.get() + first_switch,
                    .switches = int(switches),
                    .grad_scale = grad_scale,
                    .non_finite = non_finite};
                adamw(arena, adamw_step_size(step),
                      {.seed = rounding_seed, .step = uint64_t(step.t), .first_element = at.begin}, stream_);
                break;
            }
        }
        if (layout_.parts > 1) exchange_->updated(int(i));
    }
}

#define KILN_ARENAS(E, G)                     \
    template class DeviceArenas<E, G, float>; \
    template class DeviceArenas<E, G, __nv_bfloat16>;
KILN_FOR_GRADIENT_TYPES(KILN_ARENAS)

}  // namespace kiln
