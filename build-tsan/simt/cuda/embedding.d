build-tsan/simt/cuda/embedding.o: cuda/embedding.cu cpu_reference/error.h \
  cuda/kernels.h cpu_reference/rng.h cuda/pack.cuh cuda/launch.h \
  dev/simt/simt.h cuda/cuda_check.h

cpu_reference/error.h:

cuda/kernels.h:

cpu_reference/rng.h:

cuda/pack.cuh:

cuda/launch.h:

dev/simt/simt.h:

cuda/cuda_check.h:
