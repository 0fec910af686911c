build-tsan/simt/cuda/loss.o: cuda/loss.cu cpu_reference/error.h \
  cuda/kernels.h cpu_reference/rng.h cuda/pack.cuh cuda/launch.h \
  dev/simt/simt.h cuda/cuda_check.h cuda/reduce.cuh

cpu_reference/error.h:

cuda/kernels.h:

cpu_reference/rng.h:

cuda/pack.cuh:

cuda/launch.h:

dev/simt/simt.h:

cuda/cuda_check.h:

cuda/reduce.cuh:
