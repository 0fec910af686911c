#include "tools/launch/spawn.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <random>
#include <string_view>
#include <utility>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"
#include "tools/cli/stop_signal.h"
#include "tools/launch/socket.h"
#include "tools/launch/world.h"

namespace kiln {

namespace {

using Clock = std::chrono::steady_clock;
constexpr int kStopped = 3;
constexpr int kTick_ms = 20;
constexpr size_t kLongestLine = 65536;

int processors() {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

// Passes on what a rank writes, line by line.
class Lines {
public:
    Lines(int fd, std::string prefix, std::ostream& to) : pipe_(fd), prefix_(std::move(prefix)), to_(to) {}
    int fd() const { return pipe_.fd(); }

    // Passes on what has arrived. False: the rank has closed its end of the pipe.
    bool pass_on() {
        char part[16384];
        for (;;) {
            const ssize_t n = ::read(pipe_.fd(), part, sizeof part);
            if (n < 0 && errno == EINTR) continue;
            if (n < 0 && errno == EAGAIN) return true;
            if (n <= 0) break;
            text_.append(part, size_t(n));
            size_t begin = 0;
            for (size_t end; (end = text_.find('\n', begin)) != std::string::npos; begin = end + 1) {
                write(std::string_view(text_).substr(begin, end - begin));
            }
            text_.erase(0, begin);
            if (text_.size() > kLongestLine) write_rest();
        }
        if (!text_.empty()) write_rest();
        pipe_ = Socket();
        return false;
    }

private:
    void write_rest() {
        write(text_);
        text_.clear();
    }
    void write(std::string_view line) { to_ << prefix_ << line << std::endl; }

    Socket pipe_;  // a pipe; the class only closes the descriptor
    std::string prefix_, text_;
    std::ostream& to_;
};

struct Rank {
    pid_t pid = -1;
    std::optional<int> code = {};  // the exit code, or 128 + the signal
};

class Supervisor {
public:
    Supervisor(const SpawnOptions& options, std::ostream& out, std::ostream& err)
        : options_(options), out_(out), err_(err), listening_(listen_at(0, /*this_host_only=*/true)) {
        std::random_device random;
        id_ = formatted("%08x%08x%08x%08x", random(), random(), random(), random());
    }
    ~Supervisor() { signal_all(SIGKILL); }

    int run() {
        for (int rank = 0; rank < options_.size; rank++) start(rank);
        listening_ = Socket();  // rank 0 has inherited it
        int passed_on = 0;
        while (std::ranges::any_of(ranks_, [](const Rank& rank) { return !rank.code; })) {
            if (const int signal = stop_signal(); signal != passed_on) signal_all(sent_ = passed_on = signal);
            pass_output_on();
            collect();
            if (kill_at_ && Clock::now() >= *kill_at_) signal_all(SIGKILL);
        }
        for (Lines& lines : lines_) lines.pass_on();  // what a rank left behind in its pipe
        if (first_failure_) return *first_failure_ > 128 ? 1 : *first_failure_;
        return std::ranges::any_of(ranks_, [](const Rank& rank) { return rank.code == kStopped; }) ? kStopped : 0;
    }

private:
    std::vector<std::string> environment(int rank) const {
        Environment all = this_environment();
        // Variables of another launcher must not contradict those that are set below.
        std::erase_if(all, [](const auto& entry) {
            return entry.first.starts_with("TORCHELASTIC_") || entry.first.starts_with("OMPI_COMM_WORLD_");
        });
        const std::string size = std::to_string(options_.size), number = std::to_string(rank);
        all["RANK"] = all["LOCAL_RANK"] = number;
        all["WORLD_SIZE"] = all["LOCAL_WORLD_SIZE"] = size;
        all["MASTER_ADDR"] = "127.0.0.1";
        all["MASTER_PORT"] = std::to_string(port_of(listening_));
        all[kSupervisorVariable] = id_;
        all[kListenVariable] = std::to_string(listening_.fd());
        all.emplace("OMP_NUM_THREADS", std::to_string(std::max(1, processors() / options_.size)));
        std::vector<std::string> entries;
        for (const auto& [name, value] : all) entries.push_back(name + "=" + value);
        return entries;
    }

    void start(int rank) {
        const auto pointers = [](const std::vector<std::string>& texts) {
            std::vector<char*> result;
            for (const std::string& text : texts) result.push_back(const_cast<char*>(text.c_str()));
            result.push_back(nullptr);
            return result;
        };
        const std::vector<std::string> entries = environment(rank);
        const std::vector<char*> argv = pointers(options_.args), environment = pointers(entries);
        int pipes[2][2] = {{-1, -1}, {-1, -1}};
        for (auto& both : pipes) {
            if (rank > 0) {
                KILN_CHECK(::pipe2(both, O_CLOEXEC) == 0, "--gpus: cannot create a pipe for rank ", rank, ": ",
                           std::strerror(errno), "; allow more open files (ulimit -n)");
            }
        }
        const pid_t parent = ::getpid();
        const pid_t child = ::fork();
        KILN_CHECK(child >= 0, "--gpus: cannot start rank ", rank, ": ", std::strerror(errno),
                   "; allow more processes (ulimit -u)");
        if (child == 0) {  // only system calls are allowed here, because the parent has a second thread
            // In a process group of its own: then Ctrl-C reaches the parent alone, which passes it on once.
            ::setpgid(0, 0);
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (::getppid() != parent) ::_exit(1);
            sigset_t none;
            sigemptyset(&none);
            sigprocmask(SIG_SETMASK, &none, nullptr);
            ::signal(SIGPIPE, SIG_DFL);
            // A process outside of the terminal's foreground group must not read from the terminal.
            ::dup2(::open("/dev/null", O_RDONLY), STDIN_FILENO);
            if (rank == 0) {
                ::fcntl(listening_.fd(), F_SETFD, 0);
            } else {
                ::dup2(pipes[0][1], STDOUT_FILENO);
                ::dup2(pipes[1][1], STDERR_FILENO);
            }
            ::execve(options_.program.c_str(), argv.data(), environment.data());
            ::_exit(127);
        }
        ::setpgid(child, child);
        ranks_.push_back({.pid = child});
        if (rank == 0) return;
        for (int i = 0; i < 2; i++) {
            ::close(pipes[i][1]);
            ::fcntl(pipes[i][0], F_SETFL, O_NONBLOCK);
            lines_.emplace_back(pipes[i][0], concat("[rank ", rank, "] "), i == 0 ? out_ : err_);
        }
    }

    void signal_all(int signal) {
        for (const Rank& rank : ranks_) {
            if (!rank.code) ::kill(rank.pid, signal);
        }
    }

    void pass_output_on() {
        std::vector<pollfd> wanted;
        for (const Lines& lines : lines_) wanted.push_back({lines.fd(), POLLIN, 0});
        ::poll(wanted.data(), wanted.size(), kTick_ms);
        for (size_t i = 0; i < wanted.size(); i++) {
            if (wanted[i].revents != 0) lines_[i].pass_on();
        }
    }

    void collect() {
        for (size_t r = 0; r < ranks_.size(); r++) {
            int status = 0;
            if (ranks_[r].code || ::waitpid(ranks_[r].pid, &status, WNOHANG) != ranks_[r].pid) continue;
            int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            // At its very start a rank does not handle signals yet.
            if (sent_ != 0 && WIFSIGNALED(status) && WTERMSIG(status) == sent_) code = kStopped;
            ranks_[r].code = code;
            // The others may not know it yet: before they are connected, a rank that stops tells nobody.
            if (code == kStopped && sent_ == 0) signal_all(sent_ = SIGTERM);
            if (code == 0 || code == kStopped || first_failure_) continue;
            first_failure_ = code;
            const std::string how =
                WIFEXITED(status) ? concat("ended with exit code ", code) : concat("was killed by signal ", code - 128);
            err_ << "rank " << r << " (pid " << ranks_[r].pid << ") " << how << "; ending the other ranks" << std::endl;
            signal_all(SIGTERM);
            signal_all(SIGCONT);  // a stopped process handles SIGTERM only when it continues
            kill_at_ = Clock::now() + options_.patience;
        }
    }

    const SpawnOptions& options_;
    std::ostream &out_, &err_;
    Socket listening_;
    std::string id_;
    std::vector<Rank> ranks_;
    std::vector<Lines> lines_;
    int sent_ = 0;  // the last stop signal that all ranks got
    std::optional<int> first_failure_;
    std::optional<Clock::time_point> kill_at_;
};

}  // namespace

int spawn_ranks(const SpawnOptions& options, std::ostream& out, std::ostream& err) {
    return Supervisor(options, out, err).run();
}

}  // namespace kiln
