build-tsan/simt/dev/simt/cublaslt.o: dev/simt/cublaslt.cpp \
  dev/simt/simt_internal.h dev/simt/simt.h

dev/simt/simt_internal.h:

dev/simt/simt.h:
