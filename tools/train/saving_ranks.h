#pragma once
// How ranks that have a part of the state each save a checkpoint together. Rank 0 writes the weights, for which it asks
// the others, then every rank writes its own part of the optimizer state at the same time, and rank 0 writes the
// manifest when all parts are on the disk.
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cpu_reference/interface/communicator.h"
#include "cpu_reference/interface/engine.h"
#include "tools/checkpoint/model_state.h"
#include "tools/checkpoint/optimizer_state.h"

namespace kiln {

class SavingRanks {
public:
    // `ranks`: of the calls of this object, which one thread makes at a time. Both must outlive it.
    SavingRanks(const Engine& engine, Communicator& ranks) : engine_(engine), ranks_(ranks) {}

    bool is_first() const { return ranks_.rank() == 0; }
    // On all ranks together. Throws Error on a rank that does not see the directory of rank 0.
    void check_shared(const std::filesystem::path& directory);
    bool all_of(bool value);  // on all ranks together: whether it is true on each
    // Whether the thread that saves waits for other ranks now. From any thread.
    bool waits() const { return waits_; }
    // While the result lives, this rank counts as waiting.
    std::shared_ptr<void> waiting() { return ranks_.waiting(); }

    // What this rank has. Weights can be read on rank 0 only, while all others are in serve().
    ModelState state();
    // On rank 0, while all others are in serve(). Every rank writes its part; returns all digests. Throws Error, on
    // rank 0, if one of them fails.
    FileDigests write_parts(const std::filesystem::path& directory, const ModelState& own);
    // On rank 0: lets the others return from serve(). They throw Error with `failure` if it is not empty.
    void end(const std::string& failure);
    // On the others: does what rank 0 asks for until it calls end(). `own` is what this rank writes.
    void serve(const ModelState& own);

private:
    enum class Task : uint8_t { read_weights, write_part, end };
    struct Request {
        Task task;
        uint64_t offset = 0, elems = 0;  // of the weights; or `elems` bytes of text follow
    };
    void ask(Task task, std::string text);
    FileDigests write_own(const std::filesystem::path& directory, const ModelState& own);

    const Engine& engine_;
    Communicator& ranks_;
    std::atomic<bool> waits_ = false;
};

}  // namespace kiln
