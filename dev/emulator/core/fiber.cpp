#include "dev/emulator/core/fiber.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "dev/emulator/core/simt.h"

#ifdef SIMT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef SIMT_TSAN
#include <sanitizer/tsan_interface.h>
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

#ifdef __x86_64__
// Saves the registers that a function must preserve on the old stack and loads them from the new one. When a fiber
// starts, r12 holds its function and r13 the argument.
extern "C" void simt_switch(void** save, void* load);
extern "C" void simt_start();
asm(R"(.text
.globl simt_switch
.type simt_switch,@function
simt_switch:
    pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
    ret
.size simt_switch,.-simt_switch
.globl simt_start
.type simt_start,@function
simt_start:
    movq %r13, %rdi
    call *%r12
    hlt
.size simt_start,.-simt_start
)");
#endif

namespace simt {

namespace {

#ifdef SIMT_ASAN
constexpr size_t kStackBytes = 256 << 10;
#else
constexpr size_t kStackBytes = 64 << 10;
#endif
constexpr size_t kGuardBytes = 4096;  // below the stack, without access: an overflow ends the program at once

char* new_stack() {
    void* memory = ::mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || ::mprotect(memory, kGuardBytes, PROT_NONE) != 0) {
        std::perror("simt: cannot allocate the stack of a CUDA thread");
        std::abort();
    }
    return static_cast<char*>(memory) + kGuardBytes;
}

void free_stack(char* stack) {
    ::munmap(stack - kGuardBytes, kGuardBytes + kStackBytes);
}

// for_good: `from` will never run again.
void switch_to(Context& from, Context& to, [[maybe_unused]] bool for_good) {
#ifdef SIMT_ASAN
    __sanitizer_start_switch_fiber(for_good ? nullptr : &from.asan_stack, to.stack, to.stack_bytes);
#endif
#ifdef SIMT_TSAN
    __tsan_switch_to_fiber(to.tsan_fiber, __tsan_switch_to_fiber_no_sync);
#endif
#ifdef __x86_64__
    simt_switch(&from.registers, to.registers);
#else
    swapcontext(&from.registers, &to.registers);
#endif
#ifdef SIMT_ASAN
    __sanitizer_finish_switch_fiber(from.asan_stack, nullptr, nullptr);
#endif
}

}  // namespace

Fiber::~Fiber() {
    if (stack_) free_stack(stack_);
}

void Fiber::start(void (*entry)(void*), void* argument, int number) {
    if (!stack_) stack_ = new_stack();
    entry_ = entry;
    argument_ = argument;
    context_.stack = stack_;
    context_.stack_bytes = kStackBytes;
#ifdef SIMT_ASAN
    __asan_unpoison_memory_region(stack_, kStackBytes);
    context_.asan_stack = nullptr;
#endif
#ifdef SIMT_TSAN
    context_.tsan_fiber = __tsan_create_fiber(0);
#endif
#ifdef __x86_64__
    // r15 r14 r13 r12 rbx rbp and the return address; the ABI demands rsp % 16 == 0 before simt_start's call.
    void** top = reinterpret_cast<void**>(stack_ + kStackBytes - number % 32 * 448) - 9;
    top[2] = this;
    top[3] = reinterpret_cast<void*>(&Fiber::main);
    top[6] = reinterpret_cast<void*>(&simt_start);
    context_.registers = top;
#else
    (void)number;
    ucontext_t& registers = context_.registers;
    getcontext(&registers);
    registers.uc_stack.ss_sp = stack_;
    registers.uc_stack.ss_size = kStackBytes;
    registers.uc_link = nullptr;
    const auto self = reinterpret_cast<uintptr_t>(this);
    makecontext(&registers, reinterpret_cast<void (*)()>(+[](unsigned high, unsigned low) {
        Fiber::main(reinterpret_cast<Fiber*>(uintptr_t(high) << 32 | low));
    }),
                2, unsigned(self >> 32), unsigned(self));
#endif
}

void Fiber::main(Fiber* self) {
#ifdef SIMT_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &self->host_->stack, &self->host_->stack_bytes);
#endif
    self->entry_(self->argument_);
    std::abort();  // the entry ends with leave()
}

void Fiber::name([[maybe_unused]] const char* name) {
#ifdef SIMT_TSAN
    __tsan_set_fiber_name(context_.tsan_fiber, name);
#endif
}

void Fiber::resume(Context& host) {
    host_ = &host;
#ifdef SIMT_TSAN
    host.tsan_fiber = __tsan_get_current_fiber();
#endif
    switch_to(host, context_, false);
}

// Both run on the fiber but read what belongs to the host thread, which ThreadSanitizer would call a race.
__attribute__((no_sanitize("thread"))) void Fiber::pause() {
    switch_to(context_, *host_, false);
}

__attribute__((no_sanitize("thread"))) void Fiber::leave() {
    switch_to(context_, *host_, true);
}

void Fiber::finish([[maybe_unused]] bool left) {
#ifdef SIMT_TSAN
    // ThreadSanitizer would end the program if a fiber is destroyed within an Unseen. One that did not leave may be
    // there, so it is not destroyed.
    void* const fiber = std::exchange(context_.tsan_fiber, nullptr);
    if (left && fiber) __tsan_destroy_fiber(fiber);
    free_stack(std::exchange(stack_, nullptr));  // so that ThreadSanitizer forgets the accesses to it
#endif
}

#ifdef SIMT_TSAN
Unseen::Unseen() {
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
}
Unseen::~Unseen() {
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
}
void happens_before(void* token) {
    __tsan_release(token);
}
void happens_after(void* token) {
    __tsan_acquire(token);
}
#else
void happens_before(void*) {}
void happens_after(void*) {}
#endif

}  // namespace simt
