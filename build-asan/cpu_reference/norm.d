build-asan/cpu_reference/norm.o: cpu_reference/norm.cpp \
 cpu_reference/ops.h cpu_reference/model_config.h cpu_reference/rng.h \
 cpu_reference/tensors.h
cpu_reference/ops.h:
cpu_reference/model_config.h:
cpu_reference/rng.h:
cpu_reference/tensors.h:
