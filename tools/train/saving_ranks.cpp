#include "tools/train/saving_ranks.h"

#include <cstring>
#include <random>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"
#include "tokenizer/io/file.h"
#include "tools/checkpoint/names.h"
#include "tools/train/rank_plan.h"

namespace kiln {

namespace fs = std::filesystem;

bool SavingRanks::all_of(bool value) {
    double without = value ? 0 : 1;
    ranks_.all_reduce(&without, 1);
    return without == 0;
}

// A text that no other start has written shows that it is the same directory, and not one of the same name.
void SavingRanks::check_shared(const fs::path& directory) {
    std::random_device random;
    const std::string text = shared_text(formatted("%08x%08x", random(), random()), 0, ranks_);
    const fs::path file = directory / kWriteTest;
    if (is_first()) write_file_atomic(file, text);
    ranks_.barrier();
    std::error_code ignored;
    const bool seen = fs::is_regular_file(file, ignored) && read_file(file, 2 * text.size()) == text;
    const bool all_see = all_of(seen);
    if (is_first()) fs::remove(file, ignored);
    const std::string output = concat("--output (-o) ", directory.string(), ": ");
    const char* const what =
        "with --zero-stage (-z) 1 to 3 each rank writes a part of a checkpoint, so give a "
        "directory that all hosts share";
    KILN_CHECK(seen, output, "is not the directory that rank 0 has under this name; ", what);
    KILN_CHECK(all_see, output, "another rank does not see this directory; ", what);
}

ModelState SavingRanks::state() {
    StatePart part{ranks_.rank(), ranks_.size(), engine_.own_state()};
    return {engine_.config(), engine_.optimizer(), std::move(part),
            [this](const Arena& arena, size_t offset, std::span<float> out) {
                if (arena != Arena::params) return engine_.read_own_state(arena, offset, out);
                Request request{Task::read_weights, offset, out.size()};
                ranks_.broadcast(&request, sizeof request, 0);
                engine_.read(arena, offset, out);
            }};
}

void SavingRanks::ask(Task task, std::string text) {
    Request request{task, 0, text.size()};
    ranks_.broadcast(&request, sizeof request, 0);
    if (!text.empty()) ranks_.broadcast(text.data(), text.size(), 0);
}

FileDigests SavingRanks::write_parts(const fs::path& directory, const ModelState& own) {
    ask(Task::write_part, directory.string());
    return write_own(directory, own);
}

void SavingRanks::end(const std::string& failure) {
    ask(Task::end, failure);
}

// The same result on all ranks, also if one fails: none may wait for another that has left.
FileDigests SavingRanks::write_own(const fs::path& directory, const ModelState& own) {
    struct Written {
        FileDigest digest;
        uint64_t failed = 0;
    } mine;
    std::string failure;
    try {
        mine.digest = write_optimizer(directory, own);
    } catch (const std::exception& error) {
        failure = concat("rank ", ranks_.rank(), ": ", error.what());
        mine.failed = 1;
    }
    static_assert(sizeof mine % sizeof(float) == 0);
    constexpr size_t kFloats = sizeof mine / sizeof(float);  // which carry the bytes
    std::vector<float> bits(kFloats), all_bits(kFloats * size_t(ranks_.size()));
    std::memcpy(bits.data(), &mine, sizeof mine);
    waits_ = true;
    ranks_.all_gather(bits.data(), all_bits.data(), kFloats);
    waits_ = false;
    FileDigests digests;
    int failed = -1;
    for (int r = 0; r < ranks_.size(); r++) {
        Written written;
        std::memcpy(static_cast<void*>(&written), &all_bits[size_t(r) * kFloats], sizeof written);
        if (written.failed && failed < 0) failed = r;
        digests[optimizer_file(r, ranks_.size())] = written.digest;
    }
    if (failed >= 0) throw Error(shared_text(std::move(failure), failed, ranks_));
    return digests;
}

void SavingRanks::serve(const ModelState& own) {
    std::vector<float> weights;
    for (;;) {
        Request request{};
        waits_ = true;
        ranks_.broadcast(&request, sizeof request, 0);
        waits_ = false;
        std::string text;
        if (request.task == Task::read_weights) {
            weights.resize(request.elems);
            engine_.read(Arena::params, request.offset, weights);
            continue;
        }
        text.resize(request.elems);
        if (!text.empty()) ranks_.broadcast(text.data(), text.size(), 0);
        if (request.task == Task::end) {
            KILN_CHECK(text.empty(), text);
            return;
        }
        try {
            write_own(text, own);
        } catch (const Error&) {
            // Rank 0 knows, and tries again or ends.
        }
    }
}

}  // namespace kiln
