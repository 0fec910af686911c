build-tsan/cpu_reference/mlp.o: cpu_reference/mlp.cpp cpu_reference/ops.h \
  cpu_reference/model_config.h cpu_reference/rng.h \
  cpu_reference/tensors.h cpu_reference/vector_math.h

cpu_reference/ops.h:

cpu_reference/model_config.h:

cpu_reference/rng.h:

cpu_reference/tensors.h:

cpu_reference/vector_math.h:
