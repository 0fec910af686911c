build-tsan/simt/tests/cuda/schedules_emulated.o: \
  tests/cuda/schedules_emulated.cpp dev/simt/simt_internal.h \
  dev/simt/simt.h tests/cuda/schedules.h

dev/simt/simt_internal.h:

dev/simt/simt.h:

tests/cuda/schedules.h:
