#pragma once
// A fiber: a function with a stack of its own, which runs until it pauses. Each CUDA thread is one. The sanitizers
// are told about each switch.
#include <cstddef>
#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace simt {

// The saved state of a fiber, or of the host thread, while another one runs.
struct Context {
#ifdef __x86_64__
    void* registers = nullptr;  // the stack pointer; the registers lie there
#else
    ucontext_t registers;
#endif
    // For the sanitizers.
    const void* stack = nullptr;
    size_t stack_bytes = 0;
    void* asan_stack = nullptr;
    void* tsan_fiber = nullptr;
};

class Fiber {
public:
    Fiber() = default;
    Fiber(const Fiber&) = delete;
    ~Fiber();
    // entry(argument) will run at the next resume(). `number` spreads the stacks over the cache's sets.
    void start(void (*entry)(void*), void* argument, int number);
    void name(const char* name);  // in the reports of ThreadSanitizer
    void resume(Context& host);   // called by the host thread; returns when the fiber pauses or leaves
    // Called on this fiber: returns to where it was resumed. After leave it will not be resumed again.
    void pause();
    void leave();
    void finish(bool left);  // called by the host when the fiber will never be resumed again; left: it called leave

private:
    [[noreturn]] static void main(Fiber* self);

    Context context_;
    Context* host_ = nullptr;
    void (*entry_)(void*) = nullptr;
    void* argument_ = nullptr;
    char* stack_ = nullptr;
};

}  // namespace simt
