// Preloaded into a program: its thread $NO_THREAD, counted from 0, cannot be started.
#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>

extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*),
                              void* argument) {
    static const auto real = reinterpret_cast<decltype(&pthread_create)>(dlsym(RTLD_NEXT, "pthread_create"));
    static std::atomic<int> count = 0;
    const char* failing = std::getenv("NO_THREAD");
    if (failing && count++ == std::atoi(failing)) return EAGAIN;
    return real(thread, attributes, run, argument);
}
