#pragma once
// SIGTERM, SIGINT and SIGUSR1 ask a program to finish what it holds and leave.

namespace kiln {

// From now on the three only set a flag. A second SIGINT has its usual effect: the program ends at once. SIGPIPE is
// ignored, so that `train_gpt2 | head` goes on training.
void catch_stop_signals();

// The signal that came, or 0. Safe from any thread.
int stop_signal();

const char* signal_name(int signal);  // "SIGTERM"

}  // namespace kiln
