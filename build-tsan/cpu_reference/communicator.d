build-tsan/cpu_reference/communicator.o: cpu_reference/communicator.cpp \
  cpu_reference/communicator.h cpu_reference/error.h

cpu_reference/communicator.h:

cpu_reference/error.h:
