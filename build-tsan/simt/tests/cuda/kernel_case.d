build-tsan/simt/tests/cuda/kernel_case.o: tests/cuda/kernel_case.cpp \
  tests/cuda/kernel_case.h cuda/device.h cuda/cuda_check.h \
  cpu_reference/error.h tests/cuda/element.h tests/cuda/cases.h

tests/cuda/kernel_case.h:

cuda/device.h:

cuda/cuda_check.h:

cpu_reference/error.h:

tests/cuda/element.h:

tests/cuda/cases.h:
