build-asan/cpu_reference/adamw.o: cpu_reference/adamw.cpp \
 cpu_reference/ops.h cpu_reference/model_config.h cpu_reference/rng.h \
 cpu_reference/tensors.h
cpu_reference/ops.h:
cpu_reference/model_config.h:
cpu_reference/rng.h:
cpu_reference/tensors.h:
