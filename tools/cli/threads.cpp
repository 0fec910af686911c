#include "tools/cli/threads.h"

#include <omp.h>

#include <iostream>

namespace kiln {

namespace {

int at_most_one_a_processor(const char* what, int wanted) {
    const int processors = omp_get_num_procs();
    if (wanted <= processors) return wanted;
    std::cerr << "note: " << what << " " << wanted << ": " << processors
              << (processors == 1 ? " processor is" : " processors are") << " available, so " << processors
              << (processors == 1 ? " thread is" : " threads are") << " used\n";
    return processors;
}

}  // namespace

int threads_to_use(int wanted) {
    return at_most_one_a_processor("--threads", wanted);
}

void set_threads(int wanted) {
    omp_set_num_threads(wanted > 0 ? threads_to_use(wanted)
                                   : at_most_one_a_processor("OMP_NUM_THREADS", omp_get_max_threads()));
}

}  // namespace kiln
