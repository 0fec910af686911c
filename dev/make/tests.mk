# The tests. A file X_test.cpp is a program.
#   tests/<folder>/          on the CPU; those of tests/tools also in rooms
#   tests/emulator/, cuda/   on the emulator; those of tests/cuda also on a GPU
#   tests/reliability/       on the CPU, with system calls and allocations that fail; KILN_LONG=1 tries all of them
# A test program that measures time or memory says "// Runs alone" in its source, and dev/run_tests.sh runs it alone.

.PHONY: tests test test-long check-gpu gpu-bundle gpu-checks
TEST_SUPPORT := $(call objects,$(wildcard tests/support/*.cpp))
CPU_TESTS := $(patsubst %.cpp,$(BUILD)/%,$(filter-out tests/cuda/% tests/emulator/%,$(wildcard tests/*/*_test.cpp tests/tools/*/*_test.cpp)))
FUZZ_TARGETS := $(call objects,tests/fuzz/targets.cpp)

# Some start the programs.
$(CPU_TESTS): TEST_LIBS := -lgtest
$(CPU_TESTS): $(BUILD)/%: $(BUILD)/%.o $(TEST_SUPPORT) $(FUZZ_TARGETS) $(CPU_BACKEND) $(LIBRARIES) | $(BUILD)/bin/train_gpt2 $(BUILD)/bin/kiln
	$(link)

# What tests load into the programs, by LD_PRELOAD.
$(BUILD)/tests/programs/preload/%.so: tests/programs/preload/%.cpp
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CXX) -std=c++20 -Wall -Wextra -Werror -O1 -fPIC -shared -o $@ $<
$(BUILD)/tests/programs/signals_test: | $(addprefix $(BUILD)/tests/programs/preload/,timer.so stop.so)
$(BUILD)/tests/programs/system_errors_test: | $(BUILD)/tests/programs/preload/threads.so

# These are linked to the library that makes calls fail, which programs preload.
FAULTS := $(BUILD)/tests/reliability/libfaults.so
$(FAULTS): $(addprefix tests/reliability/,faults.cpp allocations.cpp faults.h)
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CXX) $(filter-out -fsanitize=%,$(KILN_FLAGS)) $(COLD_CXXFLAGS) -fPIC -shared -o $@ $(filter %.cpp,$^)
POWER_CUT := $(call objects,tests/reliability/power_cut.cpp)
RELIABILITY_TESTS := $(filter $(BUILD)/tests/reliability/%,$(CPU_TESTS))
$(RELIABILITY_TESTS): TEST_LIBS := $(FAULTS) -Wl,-rpath,'$$ORIGIN' -lgtest
$(RELIABILITY_TESTS): $(POWER_CUT) | $(FAULTS)

# What tests on a device share: the cases of the kernels, and Hopper's. Schedules differ between emulator and GPU.
CUDA_CASES := $(filter-out %_test.cpp tests/cuda/schedules_%,$(wildcard tests/cuda/*.cpp tests/cuda/cases/*.cpp tests/cuda/*/*.cu))
CUDA_TESTS := $(basename $(wildcard tests/cuda/*_test.cpp tests/cuda/*/*_test.cpp))
EMULATOR_TESTS := $(basename $(wildcard tests/emulator/*_test.cpp tests/emulator/bench/*_test.cpp)) $(CUDA_TESTS)
EMULATED_CASES := $(call emulated,$(CUDA_CASES) tests/cuda/schedules_emulated.cpp)
# A case without a row in cases.h would not be run.
$(call emulated,$(wildcard tests/cuda/cases/*.cpp)): private KILN_FLAGS += -Wmissing-declarations

EMULATED_TESTS := $(addprefix $(BUILD)/emulator/,$(EMULATOR_TESTS))
EMULATED_PROGRAM_TESTS := $(addprefix $(BUILD)/emulator/,$(basename $(wildcard tests/emulator/programs/*_test.cpp)))
$(EMULATED_TESTS) $(EMULATED_PROGRAM_TESTS): TEST_LIBS := -lgtest
$(EMULATED_TESTS): GPU_LIBS := $(FOR_EMULATED_NCCL)
$(EMULATED_TESTS): %: %.o $(EMULATED_CASES) $(TEST_SUPPORT) $(BUILD)/libemulatedbench.a $(BUILD)/libemulator.a $(BUILD)/libreference.a | $(EMULATED_NVML) $(EMULATED_NCCL)
	$(link)
# These run the programs and look at their runs, with the CPU's engine.
$(EMULATED_PROGRAM_TESTS): %: %.o $(TEST_SUPPORT) $(CPU_BACKEND) $(LIBRARIES) | $(EMULATED_PROGRAMS) $(EMULATED_NVML) $(BUILD)/bin/train_gpt2 $(BUILD)/bin/kiln
	$(link)
# This one runs train_gpt2cu with faults at its phases.
FAULTY_PROGRAM := $(BUILD)/emulator/bin/faulty_train_gpt2cu
$(FAULTY_PROGRAM): GPU_LIBS := $(FOR_EMULATED_NCCL) -Wl,--wrap=_ZN4kiln5Watch9set_phaseEPKcl
$(FAULTY_PROGRAM): $(BUILD)/tools/train_gpt2.o $(BUILD)/emulator/tests/emulator/programs/faults/at_phase.o $(EMULATED_BACKEND) $(EMULATED_LIBRARIES) | $(EMULATED_NCCL)
	$(link)
$(BUILD)/emulator/tests/emulator/programs/rank_faults_test: | $(FAULTY_PROGRAM)
# This one runs tests of the kernels.
$(BUILD)/emulator/tests/emulator/programs/older_gpu_test: | $(addprefix $(BUILD)/emulator/tests/cuda/,\
    bench/step_test engine_test engine_update_test flash_attention_edges_test flash_attention_test generation_test \
    hopper/hopper_test kernels_test matmul_test)
# Those in a folder bench/ run the benchmarks.
of_benches = $(foreach test,$(1),$(if $(findstring /bench/,$(test)),$(test)))
$(call of_benches,$(EMULATED_TESTS)): | $(addprefix $(BUILD)/emulator/,$(CUDA_BENCHES))

GPU_TESTS := $(addprefix $(BUILD)/gpu/,$(CUDA_TESTS))
$(GPU_TESTS): TEST_LIBS := -lgtest
$(GPU_TESTS): %: %.o $(call gpu,$(CUDA_CASES) tests/cuda/schedules_device.cpp) $(TEST_SUPPORT) $(BUILD)/libgpubench.a $(BUILD)/libcuda.a $(BUILD)/libreference.a
	$(link)
$(call of_benches,$(GPU_TESTS)): | $(addprefix $(BUILD)/gpu/,$(CUDA_BENCHES))

# The longest first, so that no core waits at the end.
LONGEST_TESTS := $(addprefix $(BUILD)/emulator/tests/cuda/,engine_test kernels_test generation_test)
TESTS := $(if $(CUDA_HEADERS),$(LONGEST_TESTS) $(filter-out $(LONGEST_TESTS),$(EMULATED_TESTS) $(EMULATED_PROGRAM_TESTS))) $(CPU_TESTS)
tests: $(TESTS)

# ---- test: what shows that it is right

test:  ## build everything and run every test
	@dev/setup.sh test
	@$(MAKE) --no-print-directory -j$(THREADS) programs tests
	$(if $(CUDA_HEADERS),,@echo "skipped: no CUDA headers ($(words $(EMULATOR_TESTS)) test programs of the CUDA code not built)")
	@dev/check_readme.sh & readme=$$!; BUILD=$(BUILD) dev/run_tests.sh $(TESTS); status=$$?; wait $$readme && exit $$status

test-long: $(CPU_TESTS) $(EMULATED_TESTS) $(EMULATED_PROGRAM_TESTS)  ## every kill, power cut and failing call, the tests of the CUDA code in 16 schedules, all mutations, the kernels' tests under the sanitizers, and the fuzzers for five minutes each
	@KILN_LONG=1 BUILD=$(BUILD) dev/run_tests.sh $(CPU_TESTS) $(EMULATED_PROGRAM_TESTS)
	@SIMT_SCHEDULES=16 BUILD=$(BUILD) dev/run_tests.sh $(EMULATED_TESTS)
	@$(MAKE) --no-print-directory mutations sanitize-kernels
	@$(MAKE) --no-print-directory fuzz FUZZ_SECONDS=300

GPU_CHECKS := $(GPU_TESTS) $(addprefix $(BUILD)/gpu/,$(CUDA_BENCHES))
check-gpu: $(GPU_CHECKS) $(BUILD)/bin/train_gpt2cu $(BUILD)/bin/train_gpt2 $(BUILD)/bin/kilncu  ## all tests on this machine's GPU, its speed, and a run compared with the CPU's, in 9 minutes (PARTS="engine flash")
	@BUILD=$(BUILD) CUDA=$(CUDA) REPEAT="make check-gpu" dev/check_gpu.sh

# Of the machine that the bundle goes to: every architecture is 30 MiB more.
BUNDLE_ARCHS ?= 90a
gpu-bundle:  ## all that check-gpu needs, for a machine with CUDA and nothing else, in BUILD/gpu-bundle
	@$(MAKE) --no-print-directory BUILD=$(BUILD)-bundle ARCH=x86-64-v3 MPI= GPU_ARCHS="$(BUNDLE_ARCHS)" gpu-checks
	@BUILD=$(BUILD)-bundle OUT=$(BUILD)/gpu-bundle dev/gpu_bundle.sh
gpu-checks: $(GPU_CHECKS) $(foreach p,train_gpt2cu kilncu train_gpt2 kiln,$(BUILD)/bin/$(p))
