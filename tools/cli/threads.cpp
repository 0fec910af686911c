#include "tools/cli/threads.h"

#include <omp.h>

#include <iostream>

namespace kiln {

int threads_to_use(int wanted) {
    const int processors = omp_get_num_procs();
    if (wanted <= processors) return wanted;
    std::cerr << "note: --threads " << wanted << ": " << processors
              << (processors == 1 ? " processor is" : " processors are") << " available, so " << processors
              << (processors == 1 ? " thread is" : " threads are") << " used\n";
    return processors;
}

void set_threads(int wanted) {
    if (wanted > 0) omp_set_num_threads(threads_to_use(wanted));
}

}  // namespace kiln
