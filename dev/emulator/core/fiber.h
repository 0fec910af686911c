#pragma once
// A stack of its own that runs until it pauses: what a CUDA thread is made of here. Sanitizers are told of each switch.
#include <cstddef>
#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace simt {

class HostFiber;

class Fiber {
public:
    Fiber() = default;
    Fiber(const Fiber&) = delete;
    ~Fiber();
    // entry(argument) will run at the next resume(). `number` spreads the stacks over the cache's sets.
    void start(void (*entry)(void*), void* argument, int number);
    void name(const char* name);  // in ThreadSanitizer's reports
    // Called on this fiber: back to where it was resumed. leave: it will not be resumed again.
    void pause(HostFiber& host);
    void leave(HostFiber& host);
    void finish(bool left);  // called from the host when it has left, or else will never be resumed

private:
    friend class HostFiber;
    [[noreturn]] static void main(Fiber* self);
    void back(HostFiber& host, bool for_good);

#ifdef __x86_64__
    void* context_ = nullptr;  // the stack pointer; the registers lie there
#else
    ucontext_t context_;
#endif
    void (*entry_)(void*) = nullptr;
    void* argument_ = nullptr;
    char* stack_ = nullptr;
    HostFiber* host_ = nullptr;
    void* asan_stack_ = nullptr;
    void* tsan_fiber_ = nullptr;
};

// The thread of the host, which resumes fibers.
class HostFiber {
public:
    void resume(Fiber& fiber);

private:
    friend class Fiber;
#ifdef __x86_64__
    void* context_ = nullptr;
#else
    ucontext_t context_;
#endif
    const void* stack_ = nullptr;
    size_t stack_bytes_ = 0;
    void* asan_stack_ = nullptr;
    void* tsan_fiber_ = nullptr;
};

}  // namespace simt
