#include "tools/launch/handshake.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"
#include "tokenizer/io/file.h"
#include "tools/cli/version.h"

namespace kiln {

namespace {

using nlohmann::json;
using namespace std::chrono_literals;

constexpr size_t kMaxHelloBytes = 4096;
constexpr size_t kMaxPending = 256;    // connections that have not sent a whole hello
constexpr auto kHelloTime = 10s;       // for a hello to arrive
constexpr auto kConnectTime = 5s;      // for one attempt to connect
constexpr auto kRetryTime = 100ms;     // between two attempts
constexpr auto kReturnTime = 3s;       // for a rank that has closed its connections to connect again
constexpr auto kRefusalTime = 1s;      // to tell one rank that the start has failed
constexpr auto kSharedFileTime = 24h;  // an older file is from an earlier launch

// What the connections of a rank are for, by the names that they have in messages.
constexpr std::pair<const char*, std::vector<Socket> Joined::*> kPurposes[] = {
    {"calls", &Joined::calls}, {"saves", &Joined::saves}, {"watch", &Joined::watch}};

std::string seconds_text(std::chrono::milliseconds time) {
    return formatted("%g s", double(time.count()) / 1e3);
}

std::string random_text() {
    std::random_device random;
    return formatted("%08x%08x%08x%08x", random(), random(), random(), random());
}

std::string hash_text(const std::string& text) {
    return formatted("%016llx", static_cast<unsigned long long>(xxh3_64(text.data(), text.size())));
}

// A message of another process as a JSON object, its texts and its numbers. It may contain anything.
json parsed(std::string_view text) {
    json value = json::parse(text, nullptr, false);
    return value.is_object() ? value : json::object();
}
std::string text_in(const json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}
int64_t number_in(const json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_number_integer() ? found->get<int64_t>() : -1;
}

struct Hello {
    // process: a random text, since processes on two hosts may have the same pid and host name.
    std::string process, purpose, run, nonce, build;  // purpose: one of kPurposes
    int64_t size = 0;
    RankName name;

    std::string text() const {
        return json{{"type", "hello"},   {"process", process}, {"purpose", purpose}, {"run", run},
                    {"nonce", nonce},    {"build", build},     {"size", size},       {"rank", name.rank},
                    {"host", name.host}, {"pid", name.pid}}
            .dump(-1, ' ', true, json::error_handler_t::replace);
    }
    static std::optional<Hello> parse(std::string_view text) {
        const json object = parsed(text);
        if (text_in(object, "type") != "hello") return std::nullopt;
        const int64_t rank = number_in(object, "rank");
        if (rank < 0 || rank >= kMaxRanks) return std::nullopt;
        return Hello{.process = text_in(object, "process"),
                     .purpose = text_in(object, "purpose"),
                     .run = text_in(object, "run"),
                     .nonce = text_in(object, "nonce"),
                     .build = text_in(object, "build"),
                     .size = number_in(object, "size"),
                     .name = {int(rank), text_in(object, "host"), number_in(object, "pid")}};
    }
};

// Strangers must not take the descriptors that the ranks need.
size_t most_pending() {
    rlimit files{};
    if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return kMaxPending;
    return std::clamp<size_t>(files.rlim_cur / 4, 1, kMaxPending);
}

// The launch cannot succeed. Every rank is told why.
class StartError : public Error {
public:
    using Error::Error;
};

class Host {  // rank 0
public:
    Host(const World& world, const ControlOptions& options, Hello own)
        : world_(world),
          options_(options),
          own_(std::move(own)),
          listening_(world.listen_fd >= 0
                         ? adopt_listening(world.listen_fd)
                         : listen_at(world.shared_directory.empty() ? world.master_port : 0, world.on_one_host())) {
        if (!world.shared_directory.empty()) {
            own_.nonce = random_text();
            write_shared_file();
        }
        joined_.ranks.resize(size_t(world.size));
        processes_.resize(size_t(world.size));
        gone_.assign(size_t(world.size), Deadline::max());
        for (const auto& [name, sockets] : kPurposes) (joined_.*sockets).resize(size_t(world.size));
        joined_.ranks[0] = own_.name;
    }
    ~Host() {
        std::error_code ignored;
        if (!file_.empty()) std::filesystem::remove(file_, ignored);
    }

    Joined run() {
        try {
            const Deadline end = SocketClock::now() + options_.launch_timeout;
            while (!complete()) {
                if (SocketClock::now() >= end) throw StartError(missing());
                wait();
            }
            welcome();
        } catch (const std::exception& error) {
            tell_all(json{{"type", "refused"}, {"final", true}, {"text", error.what()}}.dump());
            throw;
        }
        return std::move(joined_);
    }

private:
    struct Pending {
        Socket socket;
        Deadline end;
        std::string received = {};
    };

    bool is_there(size_t rank) const {
        return std::ranges::all_of(kPurposes,
                                   [&](const auto& purpose) { return bool((joined_.*purpose.second)[rank]); });
    }
    bool complete() const {
        for (size_t r = 1; r < joined_.ranks.size(); r++) {
            if (!is_there(r)) return false;
        }
        return true;
    }

    std::string missing() const {
        std::vector<std::string> names;
        for (size_t r = 1; r < joined_.calls.size(); r++) {
            if (!is_there(r)) names.push_back(std::to_string(r));
        }
        const size_t count = names.size();
        if (count > 8) names.resize(8), names.push_back("...");
        return concat(count == 1 ? "rank " : "ranks ", join_text(names), " of ", world_.size,
                      count == 1 ? " has" : " have", " not connected to rank 0 (", own_.name.host, ", port ",
                      port_of(listening_), ") within ", seconds_text(options_.launch_timeout),
                      strays_ > 0 ? concat("; ", strays_, " connections were not of this launch") : "",
                      "; check that they started, read their messages, and check that no firewall blocks the port; "
                      "--launch-timeout gives them more time");
    }
    static std::string join_text(const std::vector<std::string>& names) { return kiln::join(names, ", "); }

    static void refuse(const Socket& socket, const std::string& text) {
        if (!socket) return;
        try {
            send_message(socket, text, SocketClock::now() + kRefusalTime);
        } catch (const Error&) {  // the other process has ended
        }
    }

    // Tells all connected ranks and, for a moment, those that still connect. Otherwise these would try to connect until
    // their timeout.
    void tell_all(const std::string& text) {
        for (const Socket& socket : joined_.calls) refuse(socket, text);
        for (const Pending& pending : pending_) refuse(pending.socket, text);
        const Deadline end = SocketClock::now() + kRefusalTime;
        std::vector<Socket> told;  // closed only at the end, because an early close may discard what was sent
        while (SocketClock::now() < end && told.size() < kMaxPending) {
            pollfd wanted{listening_.fd(), POLLIN, 0};
            ::poll(&wanted, 1, 100);
            while (auto socket = accept_one(listening_)) {
                refuse(*socket, text);
                told.push_back(std::move(*socket));
            }
        }
    }

    // Waits at most 100 ms for new connections, hellos and ranks that end, and handles them.
    void wait() {
        std::vector<pollfd> wanted{{listening_.fd(), POLLIN, 0}};
        for (const Pending& pending : pending_) wanted.push_back({pending.socket.fd(), POLLIN, 0});
        for (const Socket& socket : joined_.calls) wanted.push_back({socket.fd(), POLLRDHUP, 0});  // poll ignores -1
        ::poll(wanted.data(), wanted.size(), 100);
        for (size_t r = 0; r < joined_.calls.size(); r++) {
            if (joined_.calls[r] && wanted[1 + pending_.size() + r].revents != 0) {
                for (const auto& [name, sockets] : kPurposes) (joined_.*sockets)[r] = Socket();
                gone_[r] = SocketClock::now() + kReturnTime;
            }
            if (SocketClock::now() > gone_[r]) {
                throw StartError(concat(joined_.ranks[r].text(),
                                        " ended while the other ranks were starting; its own message says why"));
            }
        }
        std::vector<Pending> still;
        for (Pending& pending : pending_) {
            if (const auto text = read(pending)) {
                if (*text != "") hello(std::move(pending.socket), *text);
            } else {
                still.push_back(std::move(pending));
            }
        }
        pending_ = std::move(still);
        while (auto socket = accept_one(listening_)) {
            if (pending_.size() >= max_pending_) pending_.erase(pending_.begin()), strays_++;
            pending_.push_back({std::move(*socket), SocketClock::now() + kHelloTime});
        }
    }

    // The message, when all of it has arrived; nullopt: not yet; "": the sender is not Kiln, or too slow.
    std::optional<std::string> read(Pending& pending) {
        const auto stray = [&] {
            strays_++;
            return std::string();
        };
        for (;;) {
            std::string& received = pending.received;
            size_t wanted = kMessageHeaderBytes;
            if (received.size() >= kMessageHeaderBytes) {
                const auto length = message_length(received, kMaxHelloBytes);
                if (!length || *length == 0) return stray();
                wanted += *length;
                if (received.size() == wanted) {
                    char more = 0;  // nothing is sent after it but the end, by a rank that has given up
                    if (receive_some(pending.socket, &more, 1)) return stray();
                    return received.substr(kMessageHeaderBytes);
                }
            }
            char part[kMaxHelloBytes];
            const auto n = receive_some(pending.socket, part, std::min(sizeof part, wanted - received.size()));
            if (!n && SocketClock::now() < pending.end) return std::nullopt;
            if (!n || *n == 0) return stray();
            received.append(part, *n);
        }
    }

    void hello(Socket socket, const std::string& text) {
        const auto hello = Hello::parse(text);
        if (!hello || hello->run != own_.run || hello->nonce != own_.nonce) {
            strays_++;
            refuse(
                socket,
                json{{"type", "refused"}, {"final", false}, {"text", "rank 0 of another launch listens there"}}.dump());
            return;
        }
        try {
            take(std::move(*hello), socket);
        } catch (const StartError& error) {
            refuse(socket, json{{"type", "refused"}, {"final", true}, {"text", error.what()}}.dump());
            throw;
        }
    }

    void take(Hello hello, Socket& socket) {
        const std::string who = hello.name.text();
        if (hello.build != own_.build) {
            throw StartError(concat(who, " runs another build of Kiln (", hello.build, ") than rank 0 on ",
                                    own_.name.host, " (", own_.build, "); start the same program on every host"));
        }
        if (hello.size != world_.size) {
            throw StartError(concat(who, " was started as one of ", hello.size, " ranks, rank 0 on ", own_.name.host,
                                    " as one of ", world_.size, "; start all with the same number of ranks"));
        }
        const size_t rank = size_t(hello.name.rank);
        if (rank >= joined_.ranks.size()) {
            throw StartError(concat(who, ": there are only ", world_.size, " ranks; give it a lower rank"));
        }
        const auto purpose = std::ranges::find(kPurposes, hello.purpose, [](const auto& one) { return one.first; });
        if (purpose == std::end(kPurposes)) throw StartError(who + " connects for a purpose that is not known");
        Socket& place = (joined_.*purpose->second)[rank];
        RankName& known = joined_.ranks[rank];
        // A process may try again, if this one was slow to answer.
        if (rank == 0 || (!processes_[rank].empty() && processes_[rank] != hello.process)) {
            throw StartError(concat("two processes are rank ", rank, ": pid ", known.pid, " on ", known.host,
                                    " and pid ", hello.name.pid, " on ", hello.name.host,
                                    "; give each process its own rank, and end processes of earlier runs"));
        }
        send_message(socket, json{{"type", "heard"}}.dump(), SocketClock::now() + kRefusalTime);
        known = hello.name;
        processes_[rank] = hello.process;
        gone_[rank] = Deadline::max();
        place = std::move(socket);
    }

    void welcome() {
        json names = json::array();
        for (const RankName& name : joined_.ranks) names.push_back({{"host", name.host}, {"pid", name.pid}});
        const std::string text = json{{"type", "welcome"}, {"ranks", names}}.dump();
        for (size_t r = 1; r < joined_.calls.size(); r++) {
            send_message(joined_.calls[r], text, SocketClock::now() + kHelloTime);
        }
    }

    void write_shared_file() {
        std::vector<std::string> hosts;
        ifaddrs* list = nullptr;
        if (::getifaddrs(&list) == 0) {
            const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> all(list, &::freeifaddrs);
            for (const ifaddrs* at = list; at; at = at->ifa_next) {
                char text[INET_ADDRSTRLEN];
                if (!at->ifa_addr || at->ifa_addr->sa_family != AF_INET || (at->ifa_flags & IFF_LOOPBACK) != 0)
                    continue;
                const auto* address = reinterpret_cast<const sockaddr_in*>(at->ifa_addr);
                if (::inet_ntop(AF_INET, &address->sin_addr, text, sizeof text)) hosts.emplace_back(text);
            }
        }
        if (hosts.empty()) hosts.emplace_back("127.0.0.1");
        hosts.push_back(own_.name.host);  // tried last, since DNS may be slow
        file_ = shared_file(world_);
        // The directory may be one in which others can leave a link to a file of this user.
        const std::filesystem::path fresh = concat(file_.string(), ".", own_.nonce);
        write_file_atomic(fresh,
                          json{{"hosts", hosts}, {"port", port_of(listening_)}, {"nonce", own_.nonce}}.dump() + "\n");
        std::filesystem::rename(fresh, file_);  // replaces a link, not what it points to
    }

    const World& world_;
    const ControlOptions& options_;
    Hello own_;
    Socket listening_;
    std::filesystem::path file_;  // empty: none
    std::vector<Pending> pending_;
    const size_t max_pending_ = most_pending();
    int strays_ = 0;
    Joined joined_;
    std::vector<std::string> processes_;  // Hello::process of each rank
    std::vector<Deadline> gone_;          // when each rank must have come back
};

struct Address {
    std::vector<std::string> hosts = {};
    int port = 0;
    std::string nonce = {};
    std::string text() const { return hosts.empty() ? "?" : concat(hosts[0], ":", port); }
};

class Guest {  // the other ranks
public:
    Guest(const World& world, const ControlOptions& options, Hello own)
        : world_(world), options_(options), own_(std::move(own)) {}

    Joined run() {
        const Deadline end = SocketClock::now() + options_.launch_timeout;
        std::string where = "an unknown address", why = "there was no time to try";
        do {
            try {
                const Address address = find();
                where = address.text();
                return connect(address, end);
            } catch (const StartError&) {
                throw;
            } catch (const Error& error) {
                why = error.what();
            }
            std::this_thread::sleep_for(kRetryTime);
        } while (SocketClock::now() < end);
        if (!world_.shared_directory.empty()) where = concat(where, " (see ", shared_file(world_).string(), ")");
        throw Error(concat("cannot reach rank 0 at ", where, " within ", seconds_text(options_.launch_timeout), ": ",
                           why,
                           "; check that rank 0 started, that this is its address, and that no firewall blocks it"));
    }

private:
    Address find() const {
        if (world_.shared_directory.empty()) return {{world_.master_addr}, world_.master_port};
        const std::filesystem::path path = shared_file(world_);
        const auto age =
            std::filesystem::file_time_type::clock::now() - std::filesystem::last_write_time(path, ignored());
        const json object = parsed(read_file(path, kMaxHelloBytes));
        KILN_CHECK(age < kSharedFileTime, "the file is older than a day, so it is of an earlier launch");
        Address address{.port = int(std::clamp<int64_t>(number_in(object, "port"), 0, 65535)),
                        .nonce = text_in(object, "nonce")};
        const auto hosts = object.find("hosts");
        if (hosts != object.end() && hosts->is_array()) {
            for (const json& host : *hosts) {
                if (host.is_string()) address.hosts.push_back(host.get<std::string>());
            }
        }
        KILN_CHECK(!address.hosts.empty() && address.port > 0, "the file holds no address");
        return address;
    }
    static std::error_code& ignored() {
        thread_local std::error_code error;
        return error;
    }

    Socket connect_any(const Address& address, Deadline end) const {
        std::string why = "no host was tried in this time";
        for (const std::string& host : address.hosts) {
            if (SocketClock::now() >= end) break;
            try {
                return connect_to(host, address.port, std::min(end, SocketClock::now() + kConnectTime));
            } catch (const Error& error) {
                why = error.what();
            }
        }
        throw Error(why);
    }

    static void check(const json& answer, const char* wanted) {
        const std::string type = text_in(answer, "type"), text = text_in(answer, "text");
        if (type == "refused" && answer.value("final", json()) == json(true)) throw StartError(text);
        KILN_CHECK(type != "refused", text);
        KILN_CHECK(type == wanted, "the program that answers is not rank 0");
    }

    Joined connect(const Address& address, Deadline end) {
        Joined joined;
        own_.nonce = address.nonce;
        for (const auto& [purpose, member] : kPurposes) {
            own_.purpose = purpose;
            std::vector<Socket>& sockets = joined.*member;
            sockets.push_back(connect_any(address, end));
            send_message(sockets.back(), own_.text(), SocketClock::now() + kConnectTime);
            // What an old file names may never answer. Otherwise there is no other address, and rank 0 may still start:
            // under --gpus its port is open before it runs.
            const Deadline answer = world_.shared_directory.empty() ? end : SocketClock::now() + options_.answer;
            check(parsed(receive_message(sockets.back(), answer)), "heard");
        }
        // Rank 0 may have started later, so its timeout ends later. It knows which ranks are missing, so this rank
        // waits for its message.
        const json welcome = parsed(receive_message(joined.calls[0], end + options_.launch_timeout));
        check(welcome, "welcome");
        const auto ranks = welcome.find("ranks");
        KILN_CHECK(ranks != welcome.end() && ranks->is_array() && ranks->size() == size_t(world_.size),
                   "the program that answers is not rank 0");
        for (const json& name : *ranks) {
            joined.ranks.push_back({int(joined.ranks.size()), text_in(name, "host"), number_in(name, "pid")});
        }
        return joined;
    }

    const World& world_;
    const ControlOptions& options_;
    Hello own_;
};

}  // namespace

std::string RankName::text() const {
    return concat("rank ", rank, " (", host, ", pid ", pid, ")");
}

std::filesystem::path shared_file(const World& world) {
    const std::string run = world.run_id.empty() ? "" : "-" + hash_text(world.run_id);
    return std::filesystem::path(world.shared_directory) / ("kiln-rank-0" + run + ".json");
}

std::string this_build() {
    InputFile program("/proc/self/exe");
    Xxh3 hash;
    std::vector<char> part(size_t(1) << 20);
    while (const size_t n = program.read(part.data(), part.size())) hash.update(part.data(), n);
    return concat(kVersion, " ", formatted("%016llx", static_cast<unsigned long long>(hash.digest())));
}

Joined join(const World& world, const ControlOptions& options) {
    check_master(world);
    const std::string& run = world.run_id;  // a launcher's may be long, or no UTF-8
    const Hello own{.process = random_text(),
                    .purpose = "",
                    .run = run.empty() ? "" : hash_text(run),
                    .nonce = "",
                    .build = options.build.empty() ? this_build() : options.build,
                    .size = world.size,
                    .name = {world.rank, host_name(), ::getpid()}};
    return world.rank == 0 ? Host(world, options, own).run() : Guest(world, options, own).run();
}

}  // namespace kiln
