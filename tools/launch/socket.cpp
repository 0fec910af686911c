#include "tools/launch/socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <memory>
#include <utility>

#include "cpu_reference/interface/error.h"

namespace kiln {

namespace {

std::string reason(int error) {
    return std::strerror(error);
}

void set_option(int fd, int level, int name, int value) {
    setsockopt(fd, level, name, &value, sizeof value);
}

void prepare_connection(int fd) {
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);  // then the system notices, too, that a host is down, but late
}

// False: the deadline came first.
bool wait_for(int fd, short events, Deadline deadline) {
    for (;;) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - SocketClock::now()).count();
        pollfd wanted{fd, events, 0};
        const int ready = ::poll(&wanted, 1, int(std::clamp<int64_t>(left + 1, 0, INT_MAX)));
        if (ready > 0 || (ready < 0 && errno != EINTR)) return true;  // the next call reports an error
        if (ready == 0 && left <= 0) return false;
    }
}

void wait_or_throw(int fd, short events, Deadline deadline) {
    KILN_CHECK(wait_for(fd, events, deadline), "no answer before the timeout");
}

}  // namespace

Socket::Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

Socket& Socket::operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
}

Socket::~Socket() {
    if (fd_ >= 0) ::close(fd_);
}

std::string host_name() {
    char name[256] = "";
    if (::gethostname(name, sizeof name - 1) != 0) return "unknown host";
    return name;
}

Socket listen_at(int port, bool this_host_only) {
    // An IPv6 socket takes IPv4 connections too. Machines without IPv6 cannot open one.
    int error = 0;
    for (const int family : {AF_INET6, AF_INET}) {
        if (this_host_only && family == AF_INET6) continue;
        Socket socket(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        if (!socket) {
            error = errno;
            continue;
        }
        set_option(socket.fd(), SOL_SOCKET, SO_REUSEADDR, 1);  // the port of a run that ended a moment ago
        sockaddr_in6 v6{};
        sockaddr_in v4{};
        v6.sin6_family = AF_INET6, v6.sin6_port = htons(uint16_t(port)), v6.sin6_addr = in6addr_any;
        v4.sin_family = AF_INET, v4.sin_port = htons(uint16_t(port));
        v4.sin_addr.s_addr = htonl(this_host_only ? INADDR_LOOPBACK : INADDR_ANY);
        if (family == AF_INET6) set_option(socket.fd(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
        const bool bound = family == AF_INET6
                               ? ::bind(socket.fd(), reinterpret_cast<const sockaddr*>(&v6), sizeof v6) == 0
                               : ::bind(socket.fd(), reinterpret_cast<const sockaddr*>(&v4), sizeof v4) == 0;
        if (bound && ::listen(socket.fd(), SOMAXCONN) == 0) return socket;
        error = errno;
        if (error == EADDRINUSE) break;
    }
    throw Error(
        concat("cannot listen on port ", port, ": ", reason(error),
               error == EADDRINUSE ? "; another program, perhaps an earlier run, uses this port; end it, or " : "; ",
               "choose another port (MASTER_PORT, or --server-ip (-ps) HOST:PORT)"));
}

Socket adopt_listening(int fd) {
    int listening = 0;
    socklen_t bytes = sizeof listening;
    const bool known = ::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &bytes) == 0 && listening != 0;
    KILN_CHECK(known, "the descriptor ", fd,
               " in KILN_LISTEN_DESCRIPTOR is not a listening socket; start with --gpus, or unset KILN_SUPERVISOR");
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    return Socket(fd);
}

int port_of(const Socket& socket) {
    sockaddr_storage address{};
    socklen_t bytes = sizeof address;
    ::getsockname(socket.fd(), reinterpret_cast<sockaddr*>(&address), &bytes);
    // The port is at the same offset in IPv4 and IPv6 addresses.
    return ntohs(reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
}

std::optional<Socket> accept_one(const Socket& listening) {
    Socket connection(::accept4(listening.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!connection) return std::nullopt;
    prepare_connection(connection.fd());
    return connection;
}

Socket connect_to(const std::string& host, int port, Deadline deadline) {
    addrinfo hints{}, *list = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    const int status = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
    KILN_CHECK(status == 0, "the host name cannot be resolved (",
               status == EAI_SYSTEM ? reason(errno) : ::gai_strerror(status), ")");
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses(list, &::freeaddrinfo);
    int error = ETIMEDOUT;
    for (const addrinfo* address = list; address; address = address->ai_next) {
        Socket socket(::socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        if (!socket) continue;
        if (::connect(socket.fd(), address->ai_addr, address->ai_addrlen) != 0) {
            if (errno != EINPROGRESS && errno != EINTR) {
                error = errno;
                continue;
            }
            socklen_t bytes = sizeof error;
            if (!wait_for(socket.fd(), POLLOUT, deadline)) {
                error = ETIMEDOUT;
                continue;
            }
            ::getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &bytes);
            if (error != 0) continue;
        }
        // If nobody listens on a port that the system gives to clients, TCP may connect the socket to itself.
        error = ECONNREFUSED;
        if (port_of(socket) == port) continue;
        prepare_connection(socket.fd());
        return socket;
    }
    throw Error(reason(error));
}

void send_all(const Socket& to, const void* data, size_t bytes, Deadline deadline) {
    const char* at = static_cast<const char*>(data);
    while (bytes > 0) {
        const ssize_t n = ::send(to.fd(), at, bytes, MSG_NOSIGNAL);
        if (n >= 0) {
            at += n, bytes -= size_t(n);
        } else if (errno == EAGAIN) {
            wait_or_throw(to.fd(), POLLOUT, deadline);
        } else {
            KILN_CHECK(errno == EINTR, "the connection broke: ", reason(errno));
        }
    }
}

void receive_all(const Socket& from, void* data, size_t bytes, Deadline deadline) {
    char* at = static_cast<char*>(data);
    while (bytes > 0) {
        const auto n = receive_some(from, at, bytes);
        KILN_CHECK(n != size_t(0), "the other side has closed the connection");
        if (n) {
            at += *n, bytes -= *n;
        } else {
            wait_or_throw(from.fd(), POLLIN, deadline);
        }
    }
}

std::optional<size_t> receive_some(const Socket& from, void* data, size_t bytes) {
    for (;;) {
        const ssize_t n = ::recv(from.fd(), data, bytes, 0);
        if (n >= 0) return size_t(n);
        if (errno == EAGAIN) return std::nullopt;
        if (errno != EINTR) return 0;
    }
}

std::string message(std::string_view text) {
    KILN_CHECK(text.size() <= kMaxMessageBytes, "a message of ", text.size(),
               " bytes is too long; this is a bug in Kiln");
    const uint32_t length = uint32_t(text.size());
    std::string all(kMagic);
    all.append(reinterpret_cast<const char*>(&length), sizeof length);
    return all.append(text);
}

std::optional<size_t> message_length(std::string_view header, size_t max) {
    if (header.size() < kMessageHeaderBytes || !header.starts_with(kMagic)) return std::nullopt;
    uint32_t length = 0;
    std::memcpy(&length, header.data() + kMagic.size(), sizeof length);
    return length <= max ? std::optional<size_t>(length) : std::nullopt;
}

void send_message(const Socket& to, std::string_view text, Deadline deadline) {
    const std::string all = message(text);
    send_all(to, all.data(), all.size(), deadline);
}

std::string receive_message(const Socket& from, Deadline deadline, size_t max) {
    std::string header(kMessageHeaderBytes, '\0');
    receive_all(from, header.data(), header.size(), deadline);
    const auto length = message_length(header, max);
    KILN_CHECK(length, "the program that answers is not Kiln, or is another version of it");
    std::string text(*length, '\0');
    receive_all(from, text.data(), text.size(), deadline);
    return text;
}

}  // namespace kiln
