#include "cuda/engine/engine_shape.h"

#include <algorithm>

#include "cpu_reference/interface/engine_checks.h"
#include "cpu_reference/interface/error.h"
#include "cuda/engine/arenas.h"
#include "cuda/engine/attention_choice.h"
#include "cuda/engine/batch_sender.h"
#include "cuda/engine/cuda_engine.h"
#include "cuda/parallel/traffic.h"

namespace kiln {
namespace {

constexpr size_t kLogitsBytes = size_t(1) << 30;  // the most, unless the options give the number of chunks
// Each chunk adds to the gradient of the LM head's matrix. For GPT-2 124M with 65536 rows this costs 6 % of the LM
// head's time, computed from the bytes moved.
constexpr size_t kLmHeadChunks = 16;

constexpr size_t kTileRows = 256;  // a multiple of the rows of cuBLASLt's tiles

// An estimate, not measured: 24 channels in both directions, each with 4 MiB, and half as much for short messages.
constexpr size_t kNcclBytes = size_t(288) << 20;

size_t divide_up(size_t a, size_t b) {
    return (a + b - 1) / b;
}

// The rows of each of at least `chunks` chunks of N rows: if possible the same for all of them, so that they share the
// plans of their matmuls, and whole tiles. Otherwise the last chunk has fewer rows.
size_t chunk_rows(size_t N, size_t chunks) {
    if (chunks == 1 || N / chunks < kTileRows) return divide_up(N, chunks);
    for (size_t n = chunks; n <= 2 * chunks; n++) {
        if (N % (n * kTileRows) == 0) return N / n;
    }
    return N / chunks / kTileRows * kTileRows;
}

}  // namespace

DeviceShape device_shape(const ModelConfig& c, const EngineOptions& o) {
    const size_t N = size_t(o.B) * o.T, element_bytes = o.precision == Precision::float32 ? 4 : 2;
    const size_t least_chunks = divide_up(N * padded_vocab(c) * element_bytes, kLogitsBytes);
    const size_t chunks = o.lm_head_chunks > 0 ? size_t(o.lm_head_chunks) : least_chunks;
    size_t rows = chunk_rows(N, chunks), chunk = 0;
    if (o.fixed_lm_head_chunks) {
        chunk = chunk_rows(N, std::max(kLmHeadChunks, least_chunks));
        rows = std::min(N, std::max<size_t>(divide_up(N, chunk) / chunks, 1) * chunk);
    }
    return {.B = o.B,
            .T = o.T,
            .training = o.training,
            .recompute = Recompute(o.recompute),
            .lm_head_rows = int(rows),
            .lm_head_chunk = int(chunk),
            .flash = choose_attention(c, o).flash};
}

void check_engine(const ModelConfig& c, const EngineOptions& o) {
    validate(c);
    check_micro_batch(c, o);
    const auto multiple = [](int of, const char* what, int n) {
        if (n % of != 0) {
            throw UsageError(concat("on a GPU the model's ", what, " must be a multiple of ", of, ", but it is ", n,
                                    "; choose another one, or use train_gpt2, which takes any"));
        }
    };
    multiple(8, "width (dim)", c.C);
    multiple(8, "feed-forward width (ffn)", c.F);
    multiple(c.qk_norm ? 8 : 4, "head size (head_size)", c.HS);
    multiple(8, "heads (heads) times the head size (head_size)", c.NH * c.HS);
    if (c.HS > 256) throw UsageError(concat("on a GPU the head size must be at most 256, but it is ", c.HS));
}

std::vector<MemoryItem> plan_cuda_memory(const ModelConfig& config, const EngineOptions& options) {
    check_engine(config, options);
    return with_engine_types(options, [&]<class E, class G, class M>(E, G, M) {
        const auto [activations, logits] = device_activation_bytes<E>(config, device_shape(config, options));
        std::vector<MemoryItem> plan = DeviceArenas<E, G, M>::plan(config, options);
        size_t rope = 0;
        switch (config.position) {
            case Position::learned: break;
            case Position::rope: rope = size_t(options.T) * config.HS * sizeof(float); break;
        }
        const size_t batches = BatchSender::device_bytes(options.B * options.T);
        plan.push_back({"activations", activations - logits + rope + batches});
        plan.push_back({"logits", logits});
        plan.push_back({"workspace of matmuls", MatmulOptions().workspace_bytes});
        plan.push_back({"kernels and libraries", kLoadedLaterBytes});
        if (options.ranks > 1) plan.push_back({"buffers of NCCL", kNcclBytes});
        return plan;
    });
}

uint64_t plan_cuda_bytes_sent(const ModelConfig& config, const EngineOptions& options, int micro_batches) {
    if (options.ranks == 1) return 0;
    return with_engine_types(options, [&]<class E, class G, class M>(E, G, M) {
        const int stage = options.zero_stage;
        return step_bytes_sent(ArenaLayout(padded(config), stage > 0 ? options.ranks : 1, 0),
                               {.ranks = options.ranks,
                                .stage = stage,
                                .micro_batches = micro_batches,
                                .gradient_bytes = options.narrow_reduce ? sizeof(E) : sizeof(G),
                                .param_bytes = sizeof(E)});
    });
}

}  // namespace kiln
