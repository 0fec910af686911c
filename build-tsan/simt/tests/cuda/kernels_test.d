build-tsan/simt/tests/cuda/kernels_test.o: tests/cuda/kernels_test.cpp \
  tests/cuda/kernel_case.h cuda/device.h cuda/cuda_check.h \
  cpu_reference/error.h tests/cuda/element.h tests/cuda/schedules.h

tests/cuda/kernel_case.h:

cuda/device.h:

cuda/cuda_check.h:

cpu_reference/error.h:

tests/cuda/element.h:

tests/cuda/schedules.h:
