build-tsan/cpu_reference/tensors.o: cpu_reference/tensors.cpp \
  cpu_reference/tensors.h cpu_reference/model_config.h \
  cpu_reference/error.h

cpu_reference/tensors.h:

cpu_reference/model_config.h:

cpu_reference/error.h:
