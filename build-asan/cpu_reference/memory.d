build-asan/cpu_reference/memory.o: cpu_reference/memory.cpp \
 cpu_reference/memory.h cpu_reference/error.h
cpu_reference/memory.h:
cpu_reference/error.h:
