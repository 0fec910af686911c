#include "tools/launch/control.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"

namespace kiln {

namespace {

using namespace std::chrono_literals;

constexpr Deadline kNever = Deadline::max();  // the watch ends this process if the other rank is gone
constexpr size_t kChunk = 16384;              // elements that rank 0 receives at once to add them
constexpr uint32_t kCallMagic = 0x4c4c4143;

}  // namespace

// The other ranks send it to rank 0 before the data of each call.
struct ControlCommunicator::Header {
    uint32_t magic = kCallMagic;
    Call call = Call::barrier;
    uint8_t elem_bytes = 0;
    uint16_t root = 0;
    uint64_t number = 0, elems = 0;

    std::string text() const {
        static const char* const kNames[] = {"all_reduce", "reduce_scatter", "all_gather",
                                             "broadcast",  "barrier",        "agree"};
        const size_t name = size_t(call);
        if (magic != kCallMagic || name >= std::size(kNames)) return "something that is not a call";
        if (call == Call::barrier || call == Call::agree) return kNames[name];
        return concat(kNames[name], " of ", elems, " elements of ", int(elem_bytes),
                      elem_bytes == 1 ? " byte" : " bytes", call == Call::broadcast ? concat(" from rank ", root) : "");
    }
};

ControlOptions control_options(const LaunchOptions& options) {
    const auto ms = [](double seconds) { return std::chrono::milliseconds(int64_t(seconds * 1e3)); };
    ControlOptions control{.launch_timeout = ms(options.launch_timeout_s), .rank_timeout = ms(options.rank_timeout_s)};
    if (options.rank_timeout_s > 0) control.silence = std::min(control.silence, control.rank_timeout / 2);
    control.least_timeout = std::max(control.least_timeout, control.rank_timeout / 15);
    control.beat = std::min(control.beat, control.silence / 8);
    return control;
}

ControlCommunicator::ControlCommunicator(const World& world, const ControlOptions& options)
    : ControlCommunicator(world, options, join(world, options)) {}

ControlCommunicator::ControlCommunicator(const World& world, const ControlOptions& options, Joined joined)
    : rank_(world.rank),
      options_(options),
      names_(std::move(joined.ranks)),
      sockets_(std::move(joined.calls)),
      own_watch_(std::make_unique<Watch>(rank_, names_, std::move(joined.watch), options)),
      watch_(*own_watch_),
      background_(new ControlCommunicator(*this, std::move(joined.saves))) {}

ControlCommunicator::ControlCommunicator(ControlCommunicator& main, std::vector<Socket> sockets)
    : rank_(main.rank_),
      options_(main.options_),
      names_(main.names_),
      sockets_(std::move(sockets)),
      watch_(main.watch_) {}

std::shared_ptr<void> ControlCommunicator::waits() {
    return own_watch_ ? waiting() : nullptr;
}

// Called when the connection to another rank has failed. The watch soon learns what happened to that rank, and ends
// this process with a message. If that rank ended normally, there is no such message, and this function throws.
void ControlCommunicator::broken(size_t rank, const std::string& why) {
    const Deadline end = SocketClock::now() + options_.silence + 5s;
    while (SocketClock::now() < end && !watch_.has_left(int(rank))) std::this_thread::sleep_for(20ms);
    throw Error(concat(names_[rank].text(), watch_.has_left(int(rank)) ? " has ended" : " cannot be reached",
                       ", while this rank still needs it: ", why, "; see the messages of that rank"));
}

void ControlCommunicator::send(size_t to, const void* data, size_t bytes) {
    const auto waiting = waits();
    try {
        send_all(sockets_[to], data, bytes, kNever);
    } catch (const Error& error) {
        broken(to, error.what());
    }
}

void ControlCommunicator::receive(size_t from, void* data, size_t bytes) {
    const auto waiting = waits();
    try {
        receive_all(sockets_[from], data, bytes, kNever);
    } catch (const Error& error) {
        broken(from, error.what());
    }
}

// Begins a call. On rank 0 it returns when all ranks have begun the same call; the others only send their header.
void ControlCommunicator::begin(Call call, size_t elems, size_t elem_bytes, int root) {
    KILN_CHECK(root >= 0 && root < size(), "communicator: broadcast from rank ", root, " of ", size());
    const Header own{
        .call = call, .elem_bytes = uint8_t(elem_bytes), .root = uint16_t(root), .number = calls_++, .elems = elems};
    if (rank_ != 0) return send(0, &own, sizeof own);
    for (size_t r = 1; r < names_.size(); r++) {
        Header other;
        receive(r, &other, sizeof other);
        if (std::memcmp(&own, &other, sizeof own) == 0) continue;
        const std::string what = concat(names_[r].text(), " called ", other.text(), ", rank 0 ", own.text(),
                                        " as call ", own.number, " of the run; every rank must make the same calls");
        watch_.end_others(1, "found that " + what);
        throw Error(what);
    }
}

// Rank 0 adds the data of the other ranks in the order of the ranks, so every run gets the same bits.
template <class T>
void ControlCommunicator::sum(T* data, size_t n) {
    if (rank_ != 0) return send(0, data, n * sizeof(T));
    std::vector<T> part(std::min(n, kChunk));
    for (size_t r = 1; r < names_.size(); r++) {
        for (size_t i = 0; i < n; i += kChunk) {
            const size_t count = std::min(kChunk, n - i);
            receive(r, part.data(), count * sizeof(T));
            for (size_t k = 0; k < count; k++) data[i + k] += part[k];
        }
    }
}

void ControlCommunicator::all_reduce(float* data, size_t n) {
    begin(Call::all_reduce, n, sizeof *data);
    sum(data, n);
    if (rank_ != 0) return receive(0, data, n * sizeof *data);
    for (size_t r = 1; r < names_.size(); r++) send(r, data, n * sizeof *data);
}

void ControlCommunicator::all_reduce(double* data, size_t n) {
    begin(Call::all_reduce, n, sizeof *data);
    sum(data, n);
    if (rank_ != 0) return receive(0, data, n * sizeof *data);
    for (size_t r = 1; r < names_.size(); r++) send(r, data, n * sizeof *data);
}

void ControlCommunicator::reduce_scatter(const float* in, float* out, size_t n) {
    begin(Call::reduce_scatter, n, sizeof *in);
    std::vector<float> all(in, in + n * names_.size());  // out may be a part of in
    sum(all.data(), all.size());
    if (rank_ != 0) return receive(0, out, n * sizeof *out);
    for (size_t r = 1; r < names_.size(); r++) send(r, all.data() + r * n, n * sizeof *out);
    std::copy_n(all.data(), n, out);
}

void ControlCommunicator::all_gather(const float* in, float* out, size_t n) {
    begin(Call::all_gather, n, sizeof *in);
    const size_t bytes = n * sizeof *out;
    if (rank_ != 0) {
        send(0, in, bytes);
        return receive(0, out, bytes * names_.size());
    }
    std::memmove(out, in, bytes);
    for (size_t r = 1; r < names_.size(); r++) receive(r, out + r * n, bytes);
    for (size_t r = 1; r < names_.size(); r++) send(r, out, bytes * names_.size());
}

void ControlCommunicator::broadcast(void* data, size_t bytes, int root) {
    begin(Call::broadcast, bytes, 1, root);
    if (rank_ != 0) return rank_ == root ? send(0, data, bytes) : receive(0, data, bytes);
    if (root != 0) receive(size_t(root), data, bytes);
    for (size_t r = 1; r < names_.size(); r++) {
        if (int(r) != root) send(r, data, bytes);
    }
}

void ControlCommunicator::barrier() {
    begin(Call::barrier, 0, 0);
    char all_are_here = 1;
    if (rank_ != 0) return receive(0, &all_are_here, 1);
    for (size_t r = 1; r < names_.size(); r++) send(r, &all_are_here, 1);
}

std::string ControlCommunicator::receive_text(size_t from) {
    const auto waiting = waits();
    try {
        return receive_message(sockets_[from], kNever);
    } catch (const Error& error) {
        broken(from, error.what());
    }
}

void ControlCommunicator::agree(const std::map<std::string, std::string>& values) {
    using nlohmann::json;
    begin(Call::agree, 0, 0);
    const auto send_text = [&](size_t to, const std::string& text) {
        const std::string all = message(text);
        send(to, all.data(), all.size());
    };
    std::string verdict;
    if (rank_ != 0) {
        send_text(0, json(values).dump(-1, ' ', true, json::error_handler_t::replace));
        verdict = receive_text(0);
    } else {
        const json own = json::parse(json(values).dump(-1, ' ', true, json::error_handler_t::replace));
        std::vector<std::string> differences;
        constexpr size_t kShown = 5;
        for (size_t r = 1; r < names_.size(); r++) {
            const json other = json::parse(receive_text(r), nullptr, false);
            json names = own;
            if (other.is_object()) names.update(other);
            for (const auto& [name, ignored] : names.items()) {
                const auto value = [&](const json& in) {
                    return in.is_object() && in.contains(name)
                               ? in[name].is_string() ? in[name].get<std::string>() : "?"
                               : "none";
                };
                if (value(own) == value(other)) continue;
                differences.push_back(
                    concat(names_[r].text(), " has ", name, " ", value(other), ", rank 0 ", value(own)));
            }
        }
        if (differences.size() > kShown) {
            const size_t more = differences.size() - kShown;
            differences.resize(kShown);
            differences.push_back(concat("and ", more, " more"));
        }
        if (!differences.empty()) verdict = kiln::join(differences, "; ") + ": start all ranks alike";
        for (size_t r = 1; r < names_.size(); r++) send_text(r, verdict);
    }
    if (verdict.empty()) return;
    watch_.end_others(1, "found that " + verdict);  // the same text, whichever message is printed first
    throw Error(verdict);
}

}  // namespace kiln
