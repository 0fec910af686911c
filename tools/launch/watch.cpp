#include "tools/launch/watch.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"
#include "tools/cli/run_program.h"
#include "tools/cli/standard_streams.h"

namespace kiln {

namespace {

using nlohmann::json;
using namespace std::chrono_literals;

constexpr size_t kMaxText = 8192;  // bytes of an error message
constexpr auto kClosingTime = 1s;  // for the others to read why they must end
constexpr size_t kMaxBeatBytes = 65536;
constexpr int kPatience = 5;           // times the longest time without progress
constexpr int64_t kFileBytes = 65536;  // between two heartbeats; the watch itself reads some

std::string place_text(const std::string& phase, int64_t step) {
    if (phase.empty()) return "";
    return step < 0 ? concat(" in ", phase) : concat(" in ", phase, " at step ", step);
}

// What this process has read from files and written to them. Whoever loads or saves a checkpoint makes progress.
int64_t file_bytes() {
    std::ifstream file("/proc/self/io");
    std::string name;
    int64_t read = 0, written = 0;
    file >> name >> read >> name >> written;
    return read + written;
}

std::string dumped(const json& object) {
    return object.dump(-1, ' ', true, json::error_handler_t::replace);
}

}  // namespace

// What the last heartbeats of a rank said.
struct Watch::Seen {
    Deadline heard = SocketClock::now(), changed = heard;
    std::string received = {}, phase = {};
    int64_t step = -1, progress = -1;
    bool waiting = false, first = true;
};

// For how long ranks have waited without progress, and for whom.
struct Watch::Standing {
    size_t waits = kNone, hangs = kNone;  // the same: all ranks wait
    SocketClock::duration time{};         // 0: nobody waits
    bool first = false;                   // in a phase that was not there before, or while nobody reads its output
};

Watch::Watch(int rank, std::vector<RankName> ranks, std::vector<Socket> sockets, const ControlOptions& options)
    : rank_(rank),
      ranks_(std::move(ranks)),
      sockets_(std::move(sockets)),
      options_(options),
      exceptions_(std::uncaught_exceptions()),
      left_(ranks_.size()),
      seen_(ranks_.size()) {
    // No signal may be delivered to this thread: stop_signal.h has a thread that waits for the signals of the process.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] { run(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Watch::~Watch() {
    if (std::uncaught_exceptions() > exceptions_) end_others(1, "failed" + place() + "; its own message says why");
    stop_ = true;
    thread_.join();
    if (ending_) return;
    for (size_t i = 0; i < sockets_.size(); i++) send(i, R"({"type":"bye"})");
}

void Watch::set_phase(const char* phase, int64_t step) {
    first_ = phases_.insert(phase).second;
    phase_ = phase;
    step_ = step;
    progress_++;
}

std::string Watch::place() const {
    return place_text(phase_.load(), step_);
}

// As the last heartbeat of that rank said.
std::string Watch::place_of(size_t rank) const {
    return place_text(seen_[rank].phase, seen_[rank].step);
}

// Sends a heartbeat or the reason of an end, without waiting. It is so small that the socket takes all of it or, if the
// other side does not read, nothing.
void Watch::send(size_t to, const std::string& text) noexcept {
    if (!sockets_[to]) return;
    try {
        const std::lock_guard lock(send_);
        const std::string all = message(text);
        [[maybe_unused]] const ssize_t sent =
            ::send(sockets_[to].fd(), all.data(), all.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    } catch (const std::exception&) {  // if memory runs out, the others see only that the connection closes
    }
}

// If a process ends while it has unread data, TCP resets the connection, and the other side may lose what it was sent.
// So this function reads until the other side closes the connection.
void Watch::wait_until_closed(size_t except) {
    const Deadline until = SocketClock::now() + kClosingTime;
    for (size_t i = 0; i < sockets_.size(); i++) {
        const Socket& socket = sockets_[i];
        if (!socket || i == except) continue;
        ::shutdown(socket.fd(), SHUT_WR);
        char ignored[4096];
        while (receive_some(socket, ignored, sizeof ignored) != size_t(0) && SocketClock::now() < until) {
            pollfd wanted{socket.fd(), POLLIN, 0};
            ::poll(&wanted, 1, 50);
        }
    }
}

void Watch::end_others(int code, const std::string& text) noexcept {
    if (ending_.exchange(true)) return;
    try {
        const std::string line = dumped(
            {{"type", "end"}, {"code", code}, {"line", ranks_[size_t(rank_)].text() + " " + text.substr(0, kMaxText)}});
        for (size_t i = 0; i < sockets_.size(); i++) send(i, line);
        wait_until_closed();
    } catch (const std::exception&) {  // if memory runs out, the others see only that the connections close
    }
}

// Ends this process because of what another rank did. Rank 0 first tells all ranks, and does not wait for `hanging` to
// read it.
void Watch::end(int code, const std::string& line, size_t hanging) {
    if (ending_.exchange(true)) return;  // the thread that called end_others will end this process
    if (rank_ == 0) {
        const std::string text = dumped({{"type", "end"}, {"code", code}, {"line", line}});
        for (size_t i = 0; i < sockets_.size(); i++) send(i, text);
    }
    write_error_line(error_prefix() + line);
    if (rank_ == 0) wait_until_closed(hanging);
    ::_exit(code);
}

void Watch::run() {
    const auto tick = std::min<std::chrono::milliseconds>(options_.beat, 100ms);
    Deadline next_beat = SocketClock::now(), before = next_beat;
    while (!stop_ && !ending_) {
        if (SocketClock::now() >= next_beat) {
            beat();
            next_beat = SocketClock::now() + options_.beat;
        }
        std::vector<pollfd> wanted;
        for (size_t i = 0; i < sockets_.size(); i++) {
            wanted.push_back({left_[i] ? -1 : sockets_[i].fd(), POLLIN, 0});
        }
        ::poll(wanted.data(), wanted.size(), int(tick.count()));
        // If this process itself was stopped, it received no heartbeats. That time must not count against the others.
        const Deadline now = SocketClock::now();
        const auto pause = now - before;
        before = now;
        if (pause > options_.silence / 4) {
            for (Seen& seen : seen_) seen.heard += pause, seen.changed += pause;
        }
        for (size_t i = 0; i < sockets_.size(); i++) {
            if (wanted[i].revents != 0) read(i);
        }
        see_own();  // it may have gone on since its last heartbeat
        judge();
    }
}

void Watch::beat() {
    if (const int64_t before = std::exchange(file_bytes_, file_bytes()); file_bytes_ > before + kFileBytes) progress();
    see_own();
    const Seen& own = seen_[size_t(rank_)];
    const std::string text = dumped({{"type", "beat"},
                                     {"phase", own.phase},
                                     {"step", own.step},
                                     {"progress", own.progress},
                                     {"waiting", own.waiting},
                                     {"first", own.first}});
    for (size_t i = 0; i < sockets_.size(); i++) {
        if (!left_[i]) send(i, text);
    }
}

void Watch::see_own() {
    Seen& own = seen_[size_t(rank_)];
    own.heard = SocketClock::now();
    const int64_t before = std::exchange(own.progress, progress_.load());
    if (own.progress != before) own.changed = own.heard;
    own.step = step_, own.phase = phase_.load(), own.waiting = waiting_ > 0, own.first = first_ || output_waits();
}

// Reads what `rank` has sent. Ranks other than 0 are connected to rank 0 only.
void Watch::read(size_t rank) {
    Seen& seen = seen_[rank];
    char part[4096];
    for (;;) {
        const auto n = receive_some(sockets_[index_of(rank)], part, sizeof part);
        if (!n) return;
        if (*n == 0) return lost(rank, "its connection closed without a goodbye: it was killed, or crashed");
        seen.received.append(part, *n);
        while (seen.received.size() >= kMessageHeaderBytes) {
            const auto length = message_length(seen.received, kMaxBeatBytes);
            if (!length) return lost(rank, "it sent something that is not a message of Kiln");
            if (seen.received.size() < kMessageHeaderBytes + *length) break;
            heard(rank, seen.received.substr(kMessageHeaderBytes, *length));
            seen.received.erase(0, kMessageHeaderBytes + *length);
            if (left_[rank]) return;
        }
    }
}

void Watch::heard(size_t rank, const std::string& text) {
    const json object = json::parse(text, nullptr, false);
    Seen& seen = seen_[rank];
    seen.heard = SocketClock::now();
    try {
        const std::string type = object.at("type");
        if (type == "bye") {
            left_[rank] = true;
        } else if (type == "end") {
            end(object.at("code"), object.at("line"));
        } else {
            const int64_t progress = object.at("progress");
            if (seen.progress != progress) seen.changed = seen.heard;
            seen.progress = progress;
            seen.step = object.at("step");
            seen.phase = object.at("phase");
            seen.waiting = object.at("waiting");
            seen.first = object.at("first");
        }
    } catch (const json::exception&) {
        lost(rank, "it sent something that is not a message of Kiln");
    }
}

void Watch::lost(size_t rank, const std::string& how) {
    if (stop_ || ending_) return;
    end(1, concat(ranks_[rank].text(), " died", place_of(rank), ": ", how,
                  "; its own messages, or dmesg on its host if memory ran out, may say why"));
}

Watch::Standing Watch::standing(Deadline now) const {
    const auto stood = [&](size_t rank) { return now - seen_[rank].changed; };
    // Of those that wait and of those that hold them up, the one that has stood the longest.
    size_t waits = kNone, behind = kNone;
    auto least = SocketClock::duration::max();
    bool any_first = false;
    for (size_t r = 0; r < ranks_.size(); r++) {
        if (left_[r]) continue;
        size_t& longest = seen_[r].waiting ? waits : behind;
        if (longest == kNone || stood(r) > stood(longest)) longest = r;
        least = std::min(least, stood(r));
        any_first = any_first || seen_[r].first;
    }
    if (waits == kNone) return {};
    if (behind == kNone) return {waits, waits, least, any_first};
    return {waits, behind, std::min(stood(waits), stood(behind)), seen_[behind].first};
}

void Watch::judge() {
    const Deadline now = SocketClock::now();
    const auto seconds = [](SocketClock::duration time) {
        return formatted("%g s", double(std::chrono::duration_cast<std::chrono::milliseconds>(time).count()) / 1e3);
    };
    const auto hangs = [&](size_t r, const std::string& why) {
        end(1, concat(ranks_[r].text(), " hangs", place_of(r), ": ", why), r);
    };
    const size_t judged = rank_ == 0 ? ranks_.size() : 1;  // the others receive heartbeats from rank 0 only
    for (size_t r = 0; r < judged; r++) {
        if (int(r) == rank_ || left_[r] || now - seen_[r].heard < options_.silence) continue;
        hangs(r, concat("no heartbeat for ", seconds(options_.silence),
                        "; check whether its process is stopped, and whether its host or the network is down"));
    }
    if (rank_ != 0 || options_.rank_timeout == 0ms) return;
    const auto [waits, behind, time, first] = standing(now);
    if (time < stood_) longest_ = std::max(longest_, stood_);
    SocketClock::duration limit = options_.rank_timeout;
    if (!first) limit = std::min(limit, std::max<SocketClock::duration>(options_.least_timeout, kPatience * longest_));
    if (time < limit) {
        // How long the start takes says nothing about a step.
        stood_ = behind == kNone || seen_[behind].step < 0 ? 0ms : time;
        return;
    }
    const std::string how_long = seconds(limit) + (first ? "" : concat(" (before, at most ", seconds(longest_), ")"));
    if (behind != waits) {
        hangs(behind,
              concat("no progress for ", how_long, ", while rank ", waits, " waits; --rank-timeout gives it longer"));
    } else {
        end(1,
            concat("all ranks hang", place_of(waits), ": each has waited for the others for ", how_long,
                   "; they did not make the same calls, or a GPU hangs; look for GPU errors on all hosts (dmesg)"),
            waits);
    }
}

}  // namespace kiln
