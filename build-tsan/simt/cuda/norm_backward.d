build-tsan/simt/cuda/norm_backward.o: cuda/norm_backward.cu \
  cpu_reference/error.h cuda/kernels.h cpu_reference/rng.h cuda/pack.cuh \
  cuda/launch.h dev/simt/simt.h cuda/cuda_check.h cuda/reduce.cuh

cpu_reference/error.h:

cuda/kernels.h:

cpu_reference/rng.h:

cuda/pack.cuh:

cuda/launch.h:

dev/simt/simt.h:

cuda/cuda_check.h:

cuda/reduce.cuh:
