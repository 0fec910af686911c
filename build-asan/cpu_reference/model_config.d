build-asan/cpu_reference/model_config.o: cpu_reference/model_config.cpp \
 cpu_reference/model_config.h cpu_reference/error.h
cpu_reference/model_config.h:
cpu_reference/error.h:
