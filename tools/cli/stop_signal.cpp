#include "tools/cli/stop_signal.h"

#include <atomic>
#include <csignal>

namespace kiln {

namespace {

// A signal handler can only reach globals, and may only write lock-free ones.
std::atomic<int> g_signal{0};
static_assert(std::atomic<int>::is_always_lock_free);

extern "C" void remember_signal(int signal) {
    g_signal.store(signal);
    if (signal == SIGINT) std::signal(SIGINT, SIG_DFL);  // async-signal-safe
}

}  // namespace

void catch_stop_signals() {
    struct sigaction action {};
    action.sa_handler = remember_signal;
    action.sa_flags = SA_RESTART;  // a write in progress continues
    sigemptyset(&action.sa_mask);
    for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) sigaction(signal, &action, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
}

int stop_signal() {
    return g_signal.load();
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
        default: return "a signal";
    }
}

}  // namespace kiln
