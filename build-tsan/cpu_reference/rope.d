build-tsan/cpu_reference/rope.o: cpu_reference/rope.cpp \
  cpu_reference/ops.h cpu_reference/model_config.h cpu_reference/rng.h \
  cpu_reference/tensors.h

cpu_reference/ops.h:

cpu_reference/model_config.h:

cpu_reference/rng.h:

cpu_reference/tensors.h:
