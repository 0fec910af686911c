#include "tools/cli/stop_signal.h"

#include <atomic>
#include <csignal>

namespace kiln {

namespace {

// A handler can reach nothing but a global; lock-free, so it may be written there.
std::atomic<int> g_signal{0};
static_assert(std::atomic<int>::is_always_lock_free);

extern "C" void remember_signal(int signal) {
    g_signal.store(signal);
    if (signal == SIGINT) std::signal(SIGINT, SIG_DFL);  // async-signal-safe; the next one ends the program
}

}  // namespace

void catch_stop_signals() {
    struct sigaction action {};
    action.sa_handler = remember_signal;
    action.sa_flags = SA_RESTART;  // a write that is under way goes on
    sigemptyset(&action.sa_mask);
    for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) sigaction(signal, &action, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
}

int stop_signal() {
    return g_signal.load();
}

const char* signal_name(int signal) {
    switch (signal) {
        case SIGTERM:
            return "SIGTERM";
        case SIGINT:
            return "SIGINT";
        case SIGUSR1:
            return "SIGUSR1";
        default:
            return "a signal";
    }
}

}  // namespace kiln
