build-asan/tests/main.o: tests/main.cpp
