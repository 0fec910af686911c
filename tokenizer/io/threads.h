#pragma once
// Threads for independent work, whose errors are rethrown on the calling thread.
#include <algorithm>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace kiln {

inline int threads_or_all(int threads) {  // 0: one for each processor
    return threads > 0 ? threads : int(std::max(1u, std::thread::hardware_concurrency()));
}

// Calls work(0) on this thread and work(1) to work(threads - 1) on others. Waits for all of them, and then
// rethrows the first exception.
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
