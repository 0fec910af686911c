#pragma once
// The communicator of the host for ranks in several processes, over TCP. All data goes through rank 0. It is made for
// small data: losses, the decision whether to stop, NCCL's id. On the CPU it also sums gradients, which is slow.
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cpu_reference/interface/communicator.h"
#include "tools/launch/handshake.h"
#include "tools/launch/watch.h"

namespace kiln {

ControlOptions control_options(const LaunchOptions& options);

class ControlCommunicator final : public Communicator {
public:
    // Returns when all ranks are connected (handshake.h). If a rank dies, fails or hangs after that, the processes of
    // all others end by _exit (watch.h).
    ControlCommunicator(const World& world, const ControlOptions& options);

    int rank() const override { return rank_; }
    int size() const override { return int(names_.size()); }
    void all_reduce(float* data, size_t n) override;
    void all_reduce(double* data, size_t n) override;
    void reduce_scatter(const float* in, float* out, size_t n_per_rank) override;
    void all_gather(const float* in, float* out, size_t n_per_rank) override;
    void broadcast(void* data, size_t bytes, int root) override;
    void barrier() override;
    std::shared_ptr<void> waiting() override { return std::make_shared<Watch::Waiting>(watch_); }

    // Compares values that must be the same on all ranks, by name: options, a fingerprint of the data. Throws Error on
    // all ranks if one differs: "rank 1 (host, pid 7) has --learning-rate 0.1, rank 0 0.2".
    void agree(const std::map<std::string, std::string>& values);

    // The same ranks, for calls of a second thread. While it waits in one, this rank does not count as waiting: its
    // main thread may hang.
    Communicator& background() { return *background_; }

    Watch& watch() { return watch_; }
    const std::vector<RankName>& ranks() const { return names_; }

private:
    enum class Call : uint8_t { all_reduce, reduce_scatter, all_gather, broadcast, barrier, agree };
    struct Header;
    ControlCommunicator(const World& world, const ControlOptions& options, Joined joined);
    ControlCommunicator(ControlCommunicator& main, std::vector<Socket> sockets);
    std::shared_ptr<void> waits();
    void begin(Call call, size_t elems, size_t elem_bytes, int root = 0);
    void send(size_t to, const void* data, size_t bytes);
    void receive(size_t from, void* data, size_t bytes);
    std::string receive_text(size_t from);
    [[noreturn]] void broken(size_t rank, const std::string& why);
    template <class T>
    void sum(T* data, size_t n);

    const int rank_;
    const ControlOptions options_;
    const std::vector<RankName> names_;
    const std::vector<Socket> sockets_;  // Joined::calls, or saves
    uint64_t calls_ = 0;
    std::unique_ptr<Watch> own_watch_;  // null: of the background
    Watch& watch_;
    std::unique_ptr<ControlCommunicator> background_;
};

}  // namespace kiln
