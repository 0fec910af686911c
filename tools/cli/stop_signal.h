#pragma once
// SIGTERM, SIGINT, SIGUSR1 and SIGHUP ask a program to stop. One thread receives every signal except those that a
// thread causes itself, such as SIGSEGV. No handler ever runs on another thread, because code that oneDNN generates
// keeps data below the stack pointer, where the kernel would write the handler's frame: in a test, an empty handler on
// a timer crashed every training.
#include <chrono>
#include <functional>

#include "cpu_reference/interface/communicator.h"

namespace kiln {

// Blocks all signals except faults, until the function below handles them. The mask survives an exec.
void block_signals();

// Call it once, at the start of main, before any other thread exists, because threads inherit the signal mask. Until
// one of the functions below is called, a stop signal terminates the program. If SIGHUP was ignored at the start, as
// under nohup, it stays ignored.
void take_signals_in_one_thread();

// From now on a stop signal only sets stop_signal(), and the program must soon save its work and end. A second SIGINT
// ends the program at once. SIGPIPE is ignored, so that the training in `train_gpt2 | head` continues.
void catch_stop_signals();

// From now on a stop signal sets stop_signal(). If the program still runs after `patience`, the signal thread calls
// `end` and then terminates the program by that signal, unless `end` has called _exit. If a signal has come while
// signals were caught, `end` is called at once.
void end_at_stop_signals(std::function<void(int signal)> end, std::chrono::milliseconds patience = {});

// The signal that was received, or 0. Safe from any thread.
int stop_signal();

// Whether a stop was requested on any rank. All ranks must call it, and all get the same answer: if one stopped alone,
// the others would wait forever in the next reduction. `requested` may be null.
bool stop_agreed(Communicator& communicator, const std::function<bool()>& requested);

const char* signal_name(int signal);  // "SIGTERM"

}  // namespace kiln
