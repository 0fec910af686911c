build-tsan/simt/tests/cuda/cases_embedding.o: \
  tests/cuda/cases_embedding.cpp cpu_reference/ops.h \
  cpu_reference/model_config.h cpu_reference/rng.h \
  cpu_reference/tensors.h cuda/kernels.h tests/cuda/cases.h \
  tests/cuda/kernel_case.h cuda/device.h cuda/cuda_check.h \
  cpu_reference/error.h tests/cuda/element.h

cpu_reference/ops.h:

cpu_reference/model_config.h:

cpu_reference/rng.h:

cpu_reference/tensors.h:

cuda/kernels.h:

tests/cuda/cases.h:

tests/cuda/kernel_case.h:

cuda/device.h:

cuda/cuda_check.h:

cpu_reference/error.h:

tests/cuda/element.h:
