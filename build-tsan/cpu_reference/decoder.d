build-tsan/cpu_reference/decoder.o: cpu_reference/decoder.cpp \
  cpu_reference/decoder.h cpu_reference/model_config.h \
  cpu_reference/tensors.h cpu_reference/ops.h cpu_reference/rng.h

cpu_reference/decoder.h:

cpu_reference/model_config.h:

cpu_reference/tensors.h:

cpu_reference/ops.h:

cpu_reference/rng.h:
