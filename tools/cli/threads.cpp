#include "tools/cli/threads.h"

#include <omp.h>

#include <iostream>

namespace kiln {

int threads_to_use(int wanted, const char* where) {
    const int processors = omp_get_num_procs();
    if (wanted <= processors) return wanted;
    std::cerr << "note: " << where << " " << wanted << ": " << processors
              << (processors == 1 ? " processor is" : " processors are") << " available, so " << processors
              << (processors == 1 ? " thread is" : " threads are") << " used\n";
    return processors;
}

void set_threads(int wanted) {
    omp_set_num_threads(wanted > 0 ? threads_to_use(wanted) : threads_to_use(omp_get_max_threads(), "OMP_NUM_THREADS"));
}

}  // namespace kiln
