build-tsan/simt/cuda/matmul.o: cuda/matmul.cpp cuda/matmul.h \
  cuda/device.h cuda/cuda_check.h cpu_reference/error.h

cuda/matmul.h:

cuda/device.h:

cuda/cuda_check.h:

cpu_reference/error.h:
