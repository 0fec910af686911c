#pragma once
// One function on several threads.
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace kiln {

// Calls work(0) on this thread and work(1) to work(threads - 1) on others. When all are done, throws what the first of
// them to fail threw.
template <class Work>
void on_threads(int threads, Work&& work) {
    std::mutex mutex;
    std::exception_ptr failure;
    const auto run = [&](int i) {
        try {
            work(i);
        } catch (...) {
            const std::lock_guard lock(mutex);
            if (!failure) failure = std::current_exception();
        }
    };
    {
        std::vector<std::jthread> others;
        for (int i = 1; i < threads; ++i) others.emplace_back(run, i);
        run(0);
    }
    if (failure) std::rethrow_exception(failure);
}

}  // namespace kiln
