#pragma once
// A small HTTP/1.1 server on 127.0.0.1 for tests of downloads. It can imitate the faults of real servers.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdlib>
#include <list>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace kiln {

class HttpServer {
public:
    // The answer for a path.
    struct Answer {
        std::string body = {};
        int status = 200;  // other values are sent with `location` if it is not empty
        std::string location = {};
        bool ranges = true;        // false: every answer has the whole body
        bool wrong_range = false;  // ignores the requested offset, and starts at 0
        bool length = true;        // false: no Content-Length; the connection ends the body
        int cuts = 0;              // how many times the connection is cut
        size_t cut_after = 0;      // after this number of bytes of the body
        int busy = 0;              // answer 503 this number of times first
        bool stalls = false;       // instead of a cut, hang until the server ends
        std::string then = {};     // if not empty: the body from the second request on
    };
    struct Request {
        std::string path, range, authorization, host;  // range: as in "bytes=5-"; empty: the header was not sent
    };

    HttpServer() {
        ::setenv("no_proxy", "*", 1);  // a proxy would have another 127.0.0.1
        listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        auto* generic = reinterpret_cast<sockaddr*>(&address);
        if (::bind(listener_, generic, size) || ::listen(listener_, 16) || ::getsockname(listener_, generic, &size)) {
            throw std::runtime_error("cannot listen on 127.0.0.1");
        }
        port_ = ntohs(address.sin_port);
        accepter_ = std::thread([this] { accept_all(); });
    }
    HttpServer(const HttpServer&) = delete;
    ~HttpServer() {
        {
            const std::lock_guard lock(mutex_);
            ending_ = true;
        }
        ended_.notify_all();
        ::shutdown(listener_, SHUT_RDWR);
        accepter_.join();
        for (std::thread& thread : connections_) thread.join();
        ::close(listener_);
    }

    std::string url(const std::string& path = "") const { return "http://127.0.0.1:" + std::to_string(port_) + path; }
    // `path` with its query. Paths that were never set are 404.
    void set(const std::string& path, Answer answer) {
        const std::lock_guard lock(mutex_);
        answers_[path] = std::move(answer);
    }
    std::vector<Request> requests() const {
        const std::lock_guard lock(mutex_);
        return requests_;
    }

private:
    void accept_all() {
        for (;;) {
            const int socket = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
            if (socket < 0) return;
            connections_.emplace_back([this, socket] {
                serve(socket);
                ::shutdown(socket, SHUT_RDWR);
                ::close(socket);
            });
        }
    }

    static void send_all(int socket, std::string_view text) {
        while (!text.empty()) {
            const ssize_t n = ::send(socket, text.data(), text.size(), MSG_NOSIGNAL);
            if (n <= 0) return;  // the client closed the connection
            text.remove_prefix(size_t(n));
        }
    }

    // Each connection has one request.
    void serve(int socket) {
        std::string head;
        for (char buffer[4096]; head.find("\r\n\r\n") == std::string::npos;) {
            const ssize_t n = ::recv(socket, buffer, sizeof buffer, 0);
            if (n <= 0) return;
            head.append(buffer, size_t(n));
        }
        const auto header = [&](const std::string& name) -> std::string {
            const size_t at = head.find("\r\n" + name + ": ");
            if (at == std::string::npos) return "";
            const size_t begin = at + name.size() + 4;
            return head.substr(begin, head.find("\r\n", begin) - begin);
        };
        const size_t path_at = head.find(' ') + 1;
        const Request request{.path = head.substr(path_at, head.find(' ', path_at) - path_at),
                              .range = header("Range"),
                              .authorization = header("Authorization"),
                              .host = header("Host")};
        const bool head_only = head.starts_with("HEAD ");
        Answer answer{.body = "not found\n", .status = 404};
        {
            const std::lock_guard lock(mutex_);
            requests_.push_back(request);
            if (const auto found = answers_.find(request.path); found != answers_.end()) {
                answer = found->second;
                if (found->second.cuts > 0) found->second.cuts--;
                if (!answer.then.empty()) found->second.body = answer.then;
                if (found->second.busy > 0 && found->second.busy--) answer = {.body = "busy\n", .status = 503};
            }
        }
        std::string_view body = answer.body;
        std::string range_line;
        if (answer.status == 200 && answer.ranges && request.range.starts_with("bytes=")) {
            size_t from = std::stoul(request.range.substr(6));
            if (answer.wrong_range) from = 0;
            if (from >= body.size()) {
                answer.status = 416;
                body = {};
            } else {
                answer.status = 206;
                range_line = "Content-Range: bytes " + std::to_string(from) + "-" + std::to_string(body.size() - 1) +
                             "/" + std::to_string(body.size()) + "\r\n";
                body.remove_prefix(from);
            }
        }
        std::string reply = "HTTP/1.1 " + std::to_string(answer.status) + " x\r\nConnection: close\r\n" + range_line;
        if (answer.length) reply += "Content-Length: " + std::to_string(body.size()) + "\r\n";
        if (!answer.location.empty()) reply += "Location: " + answer.location + "\r\n";
        send_all(socket, reply + "\r\n");
        if (head_only) return;
        const bool cut = answer.cuts > 0;
        send_all(socket, cut ? body.substr(0, answer.cut_after) : body);
        if (cut && answer.stalls) {
            std::unique_lock lock(mutex_);
            ended_.wait(lock, [this] { return ending_; });
        }
    }

    int listener_ = -1, port_ = 0;
    mutable std::mutex mutex_;
    std::condition_variable ended_;
    bool ending_ = false;
    std::map<std::string, Answer> answers_;
    std::vector<Request> requests_;
    std::list<std::thread> connections_;  // of the accepting thread, until that has ended
    std::thread accepter_;
};

}  // namespace kiln
