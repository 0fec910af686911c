build-tsan/cpu_reference/attention.o: cpu_reference/attention.cpp \
  cpu_reference/gemm.h cpu_reference/error.h cpu_reference/ops.h \
  cpu_reference/model_config.h cpu_reference/rng.h \
  cpu_reference/tensors.h cpu_reference/vector_math.h

cpu_reference/gemm.h:

cpu_reference/error.h:

cpu_reference/ops.h:

cpu_reference/model_config.h:

cpu_reference/rng.h:

cpu_reference/tensors.h:

cpu_reference/vector_math.h:
