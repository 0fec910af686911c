# What someone who changes Kiln runs besides the tests; .ci/run runs all of them.

# ---- change: for those who change the code

.PHONY: lint format fuzz mutations sanitize-kernels sanitize-kernels-address sanitize-kernels-thread kernel-table \
        check-kernel-table attention-report compile-commands check-toolkits toolkit-objects

lint:  ## formatting, include rules, file lengths
	@dev/lint.sh

format:  ## let clang-format lay out every source
	@git ls-files -co --exclude-standard '*.h' '*.cpp' '*.cu' '*.cuh' | grep -v unicode/tables.cpp | xargs clang-format -i

compile-commands:  ## compile_commands.json, for clangd and other editors' helpers
	@$(MAKE) --no-print-directory -Bn V=1 PRECOMPILE= programs tests | dev/compile_commands.sh >compile_commands.json

# ---- older toolkits: their headers, since no package index has nvcc 12. The names of CUDA that compiled are listed for
# the lint.

TOOLKITS := 12.4 12.9
check-toolkits: $(addprefix check-toolkit-,$(TOOLKITS))  ## the CUDA code compiles with the headers of CUDA 12.4 and 12.9, which it downloads
	@dev/cuda_names.sh >dev/cuda_names.txt
check-toolkit-%:
	@BUILD=$(BUILD) dev/cuda_headers.sh $*
	@$(MAKE) --no-print-directory BUILD=$(BUILD)-cuda$* CUDA=$(abspath $(BUILD))/toolkits/$* CXXFLAGS=-O0 toolkit-objects
	@echo "check-toolkits: compiled with the headers of CUDA $*"
toolkit-objects: $(BUILD)/libemulator.a $(BUILD)/libemulatedbench.a $(EMULATED_BACKEND) $(EMULATED_CASES) \
                 $(addsuffix .o,$(EMULATED_TESTS) $(EMULATED_PROGRAM_TESTS) $(addprefix $(BUILD)/emulator/,$(CUDA_BENCHES)))

# ---- the tokenizer and the data formats under clang's fuzzer; gcc has none

FUZZ_FLAGS := -std=c++20 -O1 -g1 -fno-omit-frame-pointer -fsanitize=address,undefined,fuzzer-no-link \
              $(SHOWN_ANYWAY) -fno-sanitize-recover=undefined -I.
# Of tools/, what the targets call. The functions beside those may call others (of engines and checkpoints), which are
# not linked: -no-pie, since a program at any address must know the address of each.
FUZZ_SOURCES := $(wildcard tokenizer/*.cpp tokenizer/*/*.cpp cpu_reference/interface/*.cpp tools/formats/*.cpp tests/fuzz/*.cpp) \
                $(addprefix tools/cli/,options.cpp options_help.cpp synonyms.cpp toml.cpp) $(addprefix tools/checkpoint/,manifest.cpp model_directory.cpp model_files.cpp model_state.cpp names.cpp) \
                $(addprefix tools/train/,loss_curve.cpp options.cpp trainer_state.cpp)
FUZZ_OBJECTS := $(patsubst %.cpp,$(BUILD)/fuzz/%.o,$(filter-out %_test.cpp,$(FUZZ_SOURCES)))

fuzz: $(if $(CLANG),$(BUILD)/fuzz/fuzz)  ## every fuzzer for a minute (FUZZ_SECONDS=60); needs clang
	@BUILD=$(BUILD) dev/fuzz.sh

FUZZ_HEADER := $(BUILD)/fuzz/host.h
$(FUZZ_HEADER).pch: dev/make/precompiled/host.h
	@mkdir -p $(@D)
	@echo "  precompile $< for the fuzzers"
	@echo '#include "$<"' >$(FUZZ_HEADER)
	$(Q)$(CLANG) $(FUZZ_FLAGS) -fpch-instantiate-templates -MMD -MP -MT $@ -MF $(FUZZ_HEADER).d -x c++-header -o $@ $<

$(BUILD)/fuzz/fuzz: $(FUZZ_OBJECTS)
	@echo "  link $@"
	$(Q)$(CLANG) $(FUZZ_FLAGS) -fsanitize=fuzzer -no-pie -Wl,--unresolved-symbols=ignore-in-object-files -o $@ $^ $(LIBS)

$(BUILD)/fuzz/%.o: %.cpp $(if $(PRECOMPILE),| $(FUZZ_HEADER).pch)
	@mkdir -p $(@D)
	@echo "  compile $< for the fuzzers"
	$(Q)$(CLANG) $(if $(PRECOMPILE),-include $(FUZZ_HEADER)) $(FUZZ_FLAGS) -MMD -MP -c -o $@ $<

# ---- tests of the tests

# dev/mutations.sh takes the flags as words, and what CUDA sources include has no JSON.
MUTATION_FLAGS = $(subst $(JSON_FLAGS),,$(KILN_FLAGS))
$(call precompiled,mutation): private KILN_FLAGS := $(MUTATION_FLAGS)
$(call precompiled,mutation): dev/make/precompiled/cuda_test.h
	$(call precompile,$(EMULATOR_FLAGS) -O0 -g0)
mutations: $(EMULATED_TESTS) $(call precompiled,mutation)  ## change the CUDA sources for the worse, one line at a time, and see that the tests catch each
	@BUILD=$(BUILD) CXX="$(CXX)" FLAGS="$(call include_precompiled,mutation) $(MUTATION_FLAGS) $(EMULATOR_FLAGS) -O0 -g0" LIBRARIES="$(BUILD)/libemulatedbench.a $(BUILD)/libemulator.a $(BUILD)/libreference.a" \
	    LIBS="-lgtest $(FOR_EMULATED_NCCL) $(LIBS)" SUPPORT="$(EMULATED_CASES) $(TEST_SUPPORT)" PART=$(PART) dev/mutations.sh $(MUTATIONS)

# ---- the kernels and their tests under the sanitizers, each in a build folder of its own. By clang: gcc's
# ThreadSanitizer leaves some accesses out, and its AddressSanitizer is slower to build. What runs the programs or counts
# a step's work, or launches as other architectures, does so in the plain build; so does the engine beside
# ThreadSanitizer.

sanitized = $(patsubst $(BUILD)/%,$(BUILD)-$(1)/%,$(filter-out $(2) %/architectures_test $(call of_benches,$(EMULATED_TESTS)),$(EMULATED_TESTS)))
SANITIZED_FLAGS := -O1 -g1 -DKILN_WITHOUT_FLOAT16
# Processes that fork, and a training that is long for a sanitizer.
RANKS_TESTS := %/ranks_engine_test
ASAN_TESTS := $(call sanitized,asan,$(RANKS_TESTS))
TSAN_TESTS := $(call sanitized,tsan,$(RANKS_TESTS) %/nccl_test %/device_communicator_test %/generation_calls_test %/generation_test %/engine_test %/engine_update_test)
sanitize-kernels: sanitize-kernels-address sanitize-kernels-thread  ## the kernels' tests under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer
ifneq ($(and $(CLANG),$(CUDA_HEADERS)),)
sanitize-kernels-address:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)-asan CXX='$(CLANG)' SANITIZE=address,undefined CXXFLAGS='$(SANITIZED_FLAGS)' $(ASAN_TESTS)
	@BUILD=$(BUILD)-asan PART=$(PART) dev/sanitized_tests.sh address $(ASAN_TESTS)
sanitize-kernels-thread:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)-tsan CXX='$(CLANG)' SANITIZE=thread CXXFLAGS='$(SANITIZED_FLAGS)' $(TSAN_TESTS)
	@BUILD=$(BUILD)-tsan PART=$(PART) dev/sanitized_tests.sh thread $(TSAN_TESTS)
else
sanitize-kernels-address sanitize-kernels-thread:
	@echo "$@: skipped: $(if $(CLANG),no CUDA headers,no clang)"
endif

# ---- ptxas's report on every kernel

PTXAS_ARCHS = $(call known_archs,75 80 90a 100 120)
PTXAS_LOGS := $(patsubst cuda/kernels/%.cu,$(BUILD)/ptxas/%.log,$(wildcard cuda/kernels/*.cu))
$(BUILD)/ptxas/%.log: cuda/kernels/%.cu
	@mkdir -p $(@D)
	@echo "  ptxas $<"
	$(Q)$(NVCC) $(NVCC_FLAGS) $(foreach a,$(PTXAS_ARCHS),$(call gencode,$a)) -Xptxas -v -MMD -MP -MF $(@:.log=.d) -MT $@ -c -o /dev/null $< 2>$@.part || { cat $@.part; exit 1; }
	@mv $@.part $@

# What the table depends on: the compiler, its flags, every file that a kernel may include, and the list of spills. The
# table names the hash of these and of its own lines, so that it is not made again to be compared with itself.
KERNEL_SOURCES := $(sort $(wildcard cuda/kernels/* cuda/device/*.h cpu_reference/interface/*.h)) dev/kernel_spills.txt
nvcc_release = $(shell $(NVCC) --version | sed -nE 's/.*release ([0-9.]+).*/\1/p')
kernel_hash = { $(NVCC) --version; echo '$(NVCC_FLAGS) $(PTXAS_ARCHS)'; cat $(KERNEL_SOURCES); } | sha256sum

kernel-table: $(PTXAS_LOGS)  ## registers, shared memory and spills of every kernel, by nvcc; fails on spills that are not listed
	@HASH=$$($(kernel_hash)) RELEASE=$(nvcc_release) dev/kernel_table.sh $(PTXAS_LOGS)

ATTENTION_REPORT := $(BUILD)/emulator/dev/bench/attention_report
check-kernel-table: $(if $(NVCC),$(ATTENTION_REPORT))  ## fails when that table is not the committed one, too
ifeq ($(NVCC),)
	@echo "check-kernel-table: skipped: no nvcc"
else
	@if ! grep -q '^# hash .* nvcc $(nvcc_release) ' dev/bench/kernel_resources.txt; then \
	    echo "check-kernel-table: skipped: the committed table is not of nvcc $(nvcc_release), which this machine has"; \
	elif HASH=$$($(kernel_hash)) RELEASE=$(nvcc_release) dev/kernel_hash.sh --check dev/bench/kernel_resources.txt; then \
	    echo "check-kernel-table: reused: the committed table is of these sources by this nvcc"; \
	else $(MAKE) --no-print-directory compare-kernel-table; fi
	@dev/attention_report.sh $(ATTENTION_REPORT) --check
endif
.PHONY: compare-kernel-table
compare-kernel-table: $(PTXAS_LOGS)
	@HASH=$$($(kernel_hash)) RELEASE=$(nvcc_release) BUILD=$(BUILD) dev/check_kernel_table.sh $(PTXAS_LOGS)

# The program has the table within it, so it is built when the table is written.
attention-report: kernel-table  ## what the attention kernels take of a multiprocessor, and how many blocks it holds
	@$(MAKE) --no-print-directory $(ATTENTION_REPORT)
	@dev/attention_report.sh $(ATTENTION_REPORT)
