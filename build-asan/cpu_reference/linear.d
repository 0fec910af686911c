build-asan/cpu_reference/linear.o: cpu_reference/linear.cpp \
 cpu_reference/gemm.h cpu_reference/error.h cpu_reference/ops.h \
 cpu_reference/model_config.h cpu_reference/rng.h cpu_reference/tensors.h
cpu_reference/gemm.h:
cpu_reference/error.h:
cpu_reference/ops.h:
cpu_reference/model_config.h:
cpu_reference/rng.h:
cpu_reference/tensors.h:
