build-tsan/simt/cuda/cast.o: cuda/cast.cu cpu_reference/error.h \
  cuda/kernels.h cpu_reference/rng.h cuda/quad.cuh cuda/pack.cuh \
  cuda/launch.h dev/simt/simt.h cuda/cuda_check.h

cpu_reference/error.h:

cuda/kernels.h:

cpu_reference/rng.h:

cuda/quad.cuh:

cuda/pack.cuh:

cuda/launch.h:

dev/simt/simt.h:

cuda/cuda_check.h:
