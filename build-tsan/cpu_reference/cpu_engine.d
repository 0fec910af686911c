build-tsan/cpu_reference/cpu_engine.o: cpu_reference/cpu_engine.cpp \
  cpu_reference/decoder.h cpu_reference/model_config.h \
  cpu_reference/tensors.h cpu_reference/engine.h \
  cpu_reference/communicator.h cpu_reference/error.h \
  cpu_reference/gemm.h cpu_reference/memory.h cpu_reference/ops.h \
  cpu_reference/rng.h

cpu_reference/decoder.h:

cpu_reference/model_config.h:

cpu_reference/tensors.h:

cpu_reference/engine.h:

cpu_reference/communicator.h:

cpu_reference/error.h:

cpu_reference/gemm.h:

cpu_reference/memory.h:

cpu_reference/ops.h:

cpu_reference/rng.h:
