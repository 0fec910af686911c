#pragma once
// --threads, for every program that has it.

namespace kiln {

// How many threads to use if the user wants this many: at most one for each processor that this process may use, since
// more would only wait for each other (1024 threads on two processors took a hundred times as long). 0 stays 0, which
// means all processors. Says on standard error if they are fewer than wanted.
int threads_to_use(int wanted);

// The same for what OpenMP computes, also if the user says it with OMP_NUM_THREADS.
void set_threads(int wanted);

}  // namespace kiln
