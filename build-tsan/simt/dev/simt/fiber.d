build-tsan/simt/dev/simt/fiber.o: dev/simt/fiber.cpp dev/simt/fiber.h \
  dev/simt/simt.h

dev/simt/fiber.h:

dev/simt/simt.h:
