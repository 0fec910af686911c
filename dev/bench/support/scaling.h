#pragma once
// A model of a training step on several GPUs: what the ranks send, and how long the passes over the model wait for it.
// Nothing is measured. dev/docs/scaling.md has its results and where it errs.
#include <array>
#include <vector>

#include "cuda/parallel/traffic.h"
#include "dev/bench/support/step_work.h"
#include "dev/bench/support/two_streams.h"

namespace kiln::bench {

// How the GPUs are connected. All collectives are taken to be rings.
struct Network {
    int nodes = 1, gpus = 1;        // GPUs of each node
    double gb_per_s = 0;            // each rank sends so much while all do: the "bus bandwidth" of nccl-tests
    double call_us = 0;             // of each collective
    double hop_us = 0, net_us = 0;  // of each step of a ring, within a node and between nodes
    double share = 0;               // of a GPU: a collective takes it from the passes

    int ranks() const { return nodes * gpus; }
};

struct RankedStep {
    ArenaLayout layout;
    int lm_head_bucket;             // 0 if the embeddings are tied
    TrafficOptions traffic;         // its ranks are those of the network
    size_t stored_gradient_bytes;   // of an element; if they travel as fewer, they are cast
    double copy_gb_per_s;           // of a cast or of a sum on the GPU, bytes read and written
    std::array<double, kParts> ms;  // of each part on one GPU that updates all parameters
};
RankedStep ranked_step(const ModelConfig& config, const EngineOptions& options, int micro_batches,
                       const Ceilings& ceilings);

// Of a step in the middle of a run.
struct Scaling {
    double bytes_sent = 0;   // by each rank
    double one_gpu_ms = 0;   // the step of one GPU with the same micro-batches
    double compute_ms = 0;   // what a rank computes: with stages 1 to 3 it updates its part only
    double exposed_ms = 0;   // the passes wait for what is exchanged
    double slowed_ms = 0;    // the passes compute longer, because collectives take a share of the GPU
    double step_ms = 0;      // the sum of these three
    std::vector<Work> work;  // of the step, without what only waits; times from its begin

    // The throughput, divided by that of as many single GPUs.
    double efficiency() const { return one_gpu_ms / step_ms; }
};
Scaling predict_scaling(const RankedStep& step, const Network& network);

}  // namespace kiln::bench
