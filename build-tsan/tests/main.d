build-tsan/tests/main.o: tests/main.cpp
