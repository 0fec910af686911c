build-tsan/simt/dev/simt/simt.o: dev/simt/simt.cpp dev/simt/simt.h \
  dev/simt/fiber.h dev/simt/simt_internal.h

dev/simt/simt.h:

dev/simt/fiber.h:

dev/simt/simt_internal.h:
