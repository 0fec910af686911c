build-tsan/simt/dev/simt/cuda_runtime.o: dev/simt/cuda_runtime.cpp \
  dev/simt/simt_internal.h dev/simt/simt.h

dev/simt/simt_internal.h:

dev/simt/simt.h:
