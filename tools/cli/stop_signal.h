#pragma once
// SIGTERM, SIGINT and SIGUSR1 ask a program to finish its current work and to end.
#include <functional>

#include "cpu_reference/interface/communicator.h"

namespace kiln {

// From now on these three signals only set a flag. A second SIGINT ends the program at once, as usual. SIGPIPE is
// ignored, so that the training in `train_gpt2 | head` continues.
void catch_stop_signals();

// The signal that was received, or 0. Safe from any thread.
int stop_signal();

// Whether a stop was requested on any rank. All ranks must call it, and all get the same answer: if one stopped alone,
// the others would wait forever in the next reduction. `requested` may be null.
bool stop_agreed(Communicator& communicator, const std::function<bool()>& requested);

const char* signal_name(int signal);  // "SIGTERM"

}  // namespace kiln
