build-tsan/simt/tests/cuda/cases_cast.o: tests/cuda/cases_cast.cpp \
  cuda/kernels.h cpu_reference/rng.h tests/cuda/cases.h \
  tests/cuda/kernel_case.h cuda/device.h cuda/cuda_check.h \
  cpu_reference/error.h tests/cuda/element.h

cuda/kernels.h:

cpu_reference/rng.h:

tests/cuda/cases.h:

tests/cuda/kernel_case.h:

cuda/device.h:

cuda/cuda_check.h:

cpu_reference/error.h:

tests/cuda/element.h:
