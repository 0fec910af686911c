#pragma once
// The watch is a thread in every rank. It sends heartbeats, and ends the process if another rank died, failed or hangs,
// because the main thread may then wait for that rank in a call that never returns. Heartbeats have a connection of
// their own between rank 0 and each other rank. Rank 0 decides which of the others died or hangs, and tells all.
#include <atomic>
#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tools/launch/handshake.h"

namespace kiln {

class Watch {
public:
    // `sockets`: Joined::watch.
    Watch(int rank, std::vector<RankName> ranks, std::vector<Socket> sockets, const ControlOptions& options);
    Watch(const Watch&) = delete;
    // Says goodbye, so that the others expect no more heartbeats. While an exception propagates, it says instead that
    // this rank failed.
    ~Watch();

    // Records what this rank does now ("save", step 7), for messages. It counts as progress. `phase` must be a string
    // literal. Step -1: the training has not begun. From one thread.
    void set_phase(const char* phase, int64_t step);
    // What takes long goes on. Files that are read or written are seen without it. Cheap, from any thread. While this
    // rank waits for others it says nothing: it then comes from a save in the background.
    void progress() noexcept {
        if (waiting_ == 0) progress_++;
    }

    // While such an object exists, this rank waits for others: in a call of a communicator, or for NCCL. Its begin and
    // its end count as progress.
    class Waiting {
    public:
        explicit Waiting(Watch& watch) noexcept : watch_(watch) { watch_.progress_++, watch_.waiting_++; }
        Waiting(const Waiting&) = delete;
        ~Waiting() { watch_.waiting_--, watch_.progress_++; }

    private:
        Watch& watch_;
    };

    // Ends all other ranks with this exit code. Each prints the name of this rank and `text`, for example "failed in
    // save: no space left". Then the caller must end this process. Only the first call has an effect. Safe from any
    // thread.
    void end_others(int code, const std::string& text) noexcept;
    // Whether that rank has said goodbye.
    bool has_left(int rank) const { return left_[size_t(rank)]; }
    // " in forward at step 7", or "" before the first set_phase.
    std::string place() const;

private:
    struct Seen;
    struct Standing;
    static constexpr size_t kNone = size_t(-1);
    void run();
    void beat();
    void see_own();
    std::string place_of(size_t rank) const;
    void judge();
    Standing standing(Deadline now) const;
    void read(size_t rank);
    void heard(size_t rank, const std::string& text);
    void lost(size_t rank, const std::string& how);
    void end(int code, const std::string& line, size_t hanging = kNone);
    void send(size_t to, const std::string& text) noexcept;
    void wait_until_closed(size_t except = kNone);
    size_t index_of(size_t rank) const { return rank_ == 0 ? rank : 0; }

    const int rank_;
    const std::vector<RankName> ranks_;
    const std::vector<Socket> sockets_;
    const ControlOptions options_;
    const int exceptions_;  // std::uncaught_exceptions() when it was made
    std::atomic<const char*> phase_ = "";
    std::atomic<int64_t> step_ = -1, progress_ = 0;
    std::atomic<int> waiting_ = 0;
    std::atomic<bool> first_ = true, ending_ = false, stop_ = false;  // first_: the phase has not been there before
    std::set<std::string_view> phases_;
    std::vector<std::atomic<bool>> left_;
    // Of the thread alone:
    std::vector<Seen> seen_;  // by rank
    int64_t file_bytes_ = 0;
    SocketClock::duration stood_{}, longest_{};  // Standing::time now; the longest that ended, since the first step
    std::mutex send_;
    std::thread thread_;
};

}  // namespace kiln
