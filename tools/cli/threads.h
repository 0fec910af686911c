#pragma once
// --threads, for every program that has it.

namespace kiln {

// Limits the number of threads that the user wants to the processors that this process may use, with a note on standard
// error: 1024 threads on two processors took a hundred times as long. 0, which means all processors, stays 0.
int threads_to_use(int wanted);

// Sets the number of OpenMP threads, with the same limit; 0: that of OMP_NUM_THREADS, or all processors.
void set_threads(int wanted);

}  // namespace kiln
