#pragma once
// TCP connections between ranks. No call waits longer than its deadline.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kiln {

using SocketClock = std::chrono::steady_clock;
using Deadline = SocketClock::time_point;

// A connected or a listening socket, which does not block and is closed on exec.
class Socket {
public:
    Socket() = default;
    explicit Socket(int fd) : fd_(fd) {}
    Socket(Socket&& other) noexcept;
    Socket& operator=(Socket&& other) noexcept;
    ~Socket();
    int fd() const { return fd_; }
    explicit operator bool() const { return fd_ >= 0; }

private:
    int fd_ = -1;
};

std::string host_name();  // the name of this machine

// Listens on `port` (0: any free port), for processes of this host or for all. Throws Error if the port is in use.
Socket listen_at(int port, bool this_host_only);
// Takes the listening socket `fd`, which the parent process has opened. Throws Error if `fd` is not one.
Socket adopt_listening(int fd);
int port_of(const Socket& socket);  // the local port

// Accepts the next connection, if one is waiting.
std::optional<Socket> accept_one(const Socket& listening);

// Tries every address of the host once. Throws Error with the reason: "connection refused".
Socket connect_to(const std::string& host, int port, Deadline deadline);

// Both throw Error if the connection breaks or the deadline comes first.
void send_all(const Socket& to, const void* data, size_t bytes, Deadline deadline);
void receive_all(const Socket& from, void* data, size_t bytes, Deadline deadline);

// Reads what has arrived, at most `bytes`. 0: the connection was closed or broke; nullopt: nothing has arrived yet.
std::optional<size_t> receive_some(const Socket& from, void* data, size_t bytes);

// A message is kMagic, the length of the text, and the text. Other programs do not send kMagic.
inline constexpr size_t kMaxMessageBytes = size_t(1) << 20;
inline constexpr std::string_view kMagic = "KILNRNK1";
inline constexpr size_t kMessageHeaderBytes = 12;
std::string message(std::string_view text);
// The length that a header gives. nullopt: the header is not Kiln's, or the length is more than `max`.
std::optional<size_t> message_length(std::string_view header, size_t max);
void send_message(const Socket& to, std::string_view text, Deadline deadline);
std::string receive_message(const Socket& from, Deadline deadline, size_t max = kMaxMessageBytes);

}  // namespace kiln
