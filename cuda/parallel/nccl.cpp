#include "cuda/parallel/nccl.h"

#include <dlfcn.h>

#include "cpu_reference/interface/error.h"

namespace kiln {

namespace {

std::string what_to_install() {
    constexpr int kCuda = CUDART_VERSION / 1000;
    return concat("Several GPUs need NCCL 2.14 or later: install libnccl2 from NVIDIA's CUDA repository, or run 'pip ",
                  "install nvidia-nccl-cu", kCuda, "' and add its folder nvidia/nccl/lib to LD_LIBRARY_PATH. One GPU ",
                  "needs no NCCL");
}

}  // namespace

Nccl::Nccl(const char* library) {
    void* const opened = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!opened) throw Error(concat("NCCL: ", dlerror(), ". ", what_to_install()));
    const auto find = [&]<class F>(F*& function, const char* name) {
        function = reinterpret_cast<F*>(dlsym(opened, name));
        KILN_CHECK(function, "NCCL: ", library, " has no ", name, ": it is too old, or is not NCCL. ",
                   what_to_install());
    };
#define KILN_NCCL_FIND(name) find(this->name, #name);
    KILN_NCCL_FUNCTIONS(KILN_NCCL_FIND)
}

}  // namespace kiln
