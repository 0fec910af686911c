#pragma once
// SIGTERM, SIGINT, SIGUSR1 and SIGHUP ask a program to stop. One thread takes all signals, and no other thread is ever
// interrupted: code that oneDNN generates keeps data below the stack pointer, where the kernel would write the frame of
// a handler. A handler that did nothing, on a timer, crashed every training.
#include <chrono>
#include <functional>

#include "cpu_reference/interface/communicator.h"

namespace kiln {

// Signals wait until the function below takes them, also if the program starts itself again before that.
void block_signals();

// Called once, at the start of main, before there is another thread: threads inherit what this one blocks. Until one of
// the functions below is called, a stop signal ends the program as usual. SIGHUP is left alone if it was ignored, as
// nohup wants.
void take_signals_in_one_thread();

// From now on a stop signal only sets stop_signal(), and the program must soon save its work and end. A second SIGINT
// ends the program at once. SIGPIPE is ignored, so that the training in `train_gpt2 | head` continues.
void catch_stop_signals();

// From now on a stop signal sets stop_signal() and, if the program still runs after `patience`, calls `end` on the
// thread of the signals, and then ends the program as usual. `end` may also end it with an exit code of its own, by
// _exit. It is called at once if a signal came while signals were caught.
void end_at_stop_signals(std::function<void(int signal)> end, std::chrono::milliseconds patience = {});

// The signal that was received, or 0. Safe from any thread.
int stop_signal();

// Whether a stop was requested on any rank. All ranks must call it, and all get the same answer: if one stopped alone,
// the others would wait forever in the next reduction. `requested` may be null.
bool stop_agreed(Communicator& communicator, const std::function<bool()>& requested);

const char* signal_name(int signal);  // "SIGTERM"

}  // namespace kiln
