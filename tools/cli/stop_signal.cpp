#include "tools/cli/stop_signal.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <ctime>
#include <mutex>
#include <thread>
#include <utility>

namespace kiln {

namespace {

using Clock = std::chrono::steady_clock;

// Signals belong to the process, so this does too. The thread may still use it while the process ends, so it is never
// destroyed.
struct Signals {
    std::atomic<int> received = 0;
    std::mutex mutex;  // of the rest
    bool caught = false;
    std::function<void(int)> end;
    std::chrono::milliseconds patience{};
};
Signals& signals() {
    static Signals& all = *new Signals;
    return all;
}

// As if it had not been blocked. Returns if the signal is ignored.
void end_by(int signal) {
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, signal);
    pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
    pthread_kill(pthread_self(), signal);
    pthread_sigmask(SIG_BLOCK, &one, nullptr);
}

void end_now() {
    Signals& all = signals();
    // Held until the end, so that the program does not begin what must not be cut short.
    const std::lock_guard lock(all.mutex);
    if (!all.end) return;
    all.end(all.received);
    ::signal(all.received, SIG_DFL);  // a shell may have started the program with SIGINT ignored
    end_by(all.received);
}

// The next of the signals in `set`; 0: none came until `time`.
int next_signal(const sigset_t& set, Clock::time_point time) {
    for (;;) {
        const auto left = std::chrono::duration_cast<std::chrono::nanoseconds>(time - Clock::now()).count();
        if (left <= 0) return 0;
        const timespec limit{left / 1'000'000'000, left % 1'000'000'000};
        const int signal = sigtimedwait(&set, nullptr, &limit);
        if (signal > 0) return signal;
    }
}

[[noreturn]] void take_signals(const sigset_t& set) {
    Signals& all = signals();
    bool interrupted = false;
    for (auto time = Clock::time_point::max();;) {
        const int signal = next_signal(set, time);
        if (signal == 0) {
            end_now();
            time = Clock::time_point::max();
            continue;
        }
        const std::lock_guard lock(all.mutex);
        if (!all.caught) {
            end_by(signal);
            continue;
        }
        if (signal == SIGINT && std::exchange(interrupted, true)) {
            ::signal(SIGINT, SIG_DFL);
            end_by(SIGINT);
        }
        all.received = signal;
        if (all.end) time = std::min(time, Clock::now() + all.patience);
    }
}

}  // namespace

void block_signals() {
    sigset_t all;
    sigfillset(&all);
    // The thread that causes one of these gets it.
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS, SIGTRAP, SIGPIPE}) {
        sigdelset(&all, fault);
    }
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

void take_signals_in_one_thread() {
    sigset_t stop;
    sigemptyset(&stop);
    for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) sigaddset(&stop, signal);
    struct sigaction hangup {};
    sigaction(SIGHUP, nullptr, &hangup);
    if (hangup.sa_handler != SIG_IGN) sigaddset(&stop, SIGHUP);

    block_signals();
    std::thread([stop] {
        pthread_sigmask(SIG_SETMASK, &stop, nullptr);
        take_signals(stop);
    }).detach();
    ::signal(SIGPIPE, SIG_DFL);  // some programs start others with SIGPIPE ignored; a command ends with its reader
    ::signal(SIGXFSZ, SIG_IGN);  // a write past the limit of a file's size is an error then, with a message
}

void catch_stop_signals() {
    Signals& all = signals();
    const std::lock_guard lock(all.mutex);
    all.caught = true;
    all.end = nullptr;
    ::signal(SIGPIPE, SIG_IGN);
}

void end_at_stop_signals(std::function<void(int signal)> end, std::chrono::milliseconds patience) {
    catch_stop_signals();
    {
        Signals& all = signals();
        const std::lock_guard lock(all.mutex);
        all.end = std::move(end);
        all.patience = patience;
    }
    if (stop_signal() != 0) end_now();
}

int stop_signal() {
    return signals().received;
}

bool stop_agreed(Communicator& communicator, const std::function<bool()>& requested) {
    double stop = requested && requested() ? 1 : 0;
    if (communicator.size() > 1) communicator.all_reduce(&stop, 1);
    return stop > 0;
}

const char* signal_name(int signal) {
    switch (signal) {
        case SIGTERM: return "SIGTERM";
        case SIGINT: return "SIGINT";
        case SIGUSR1: return "SIGUSR1";
        case SIGHUP: return "SIGHUP";
        default: return "a signal";
    }
}

}  // namespace kiln
