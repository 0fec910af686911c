# Kiln. `make help` lists the targets; README.md says the ones that matter.
BUILD    ?= build
# The processor to build for: `make ARCH=x86-64-v3` makes binaries that run elsewhere too.
ARCH     ?= native
SANITIZE ?=
CXX      ?= g++
CXXFLAGS ?= -O3 -g1
THREADS  ?= $(shell nproc)
# V=1 shows the commands in full.
Q        := $(if $(V),,@)

KILN_FLAGS := -std=c++20 -march=$(ARCH) -fopenmp -fno-math-errno -fno-trapping-math -ffp-contract=fast \
              -Wall -Wextra -Werror $(if $(findstring clang,$(CXX)),-Wno-pass-failed) -I. $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer)
LIBS       := -Wl,--as-needed -ldnnl -licuuc -lpcre2-8 -lsentencepiece -lsentencepiece_train -lsimdjson -lzstd -lz -lcurl -lpthread
TEST_LIBS  := -lgtest

objects    = $(patsubst %.cpp,$(BUILD)/%.o,$(1))
PROGRAMS  := train_gpt2 kiln
NVCC      ?= $(firstword $(wildcard /usr/local/cuda/bin/nvcc) $(shell command -v nvcc 2>/dev/null))
CUDA      ?= $(patsubst %/bin/nvcc,%,$(realpath $(NVCC)))
# The CUDA code is compiled for the host where CUDA's headers are.
CUDA_HEADERS := $(wildcard $(CUDA)/include/cuda_runtime.h)
CUDA_LIBRARIES := $(and $(NVCC),$(wildcard $(CUDA)/lib64/libcublasLt.so))
MAINS     := tools/train_gpt2.cpp tools/main.cpp
REFERENCE := $(call objects,$(wildcard cpu_reference/*.cpp))
TOKENIZER := $(call objects,$(wildcard tokenizer/*.cpp))
TOOLS     := $(call objects,$(filter-out $(MAINS),$(wildcard tools/*.cpp)))
LIBRARIES := $(BUILD)/libtools.a $(BUILD)/libreference.a $(BUILD)/libtokenizer.a
TESTS     := $(patsubst tests/%.cpp,$(BUILD)/tests/%,$(filter-out $(if $(CUDA_HEADERS),,%_cu_test.cpp),$(wildcard tests/*_test.cpp)))
TEST_SUPPORT := $(call objects,$(filter-out %_test.cpp,$(wildcard tests/*.cpp)))
CLANG      ?= $(firstword $(shell command -v clang++ clang++-14 2>/dev/null))

.PHONY: help setup all programs simt-programs tests quickstart test lint format bench bench-tokenizer faults \
        kernel-table check-kernel-table attention-report check-gpu gpu-bundle gpu-checks bench-kernels bench-attention profile sanitize-kernels sanitize-kernels-address \
        sanitize-kernels-thread fuzz clean FORCE
.DELETE_ON_ERROR:
.SECONDARY:

help:  ## this list
	@grep -hE '^[a-z_0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup:  ## install the Debian packages of dev/packages.txt (says what it would install when it may not)
	@dev/setup.sh

all: programs $(if $(CUDA_LIBRARIES),train_gpt2cu kilncu)  ## every program this machine can build
	@dev/left_out.sh "$(NVCC)" "$(CUDA_LIBRARIES)"

programs: $(PROGRAMS)

train_gpt2: $(BUILD)/bin/train_gpt2  ## the trainer, on the CPU in float32
	@ln -sf $< $@
kiln: $(BUILD)/bin/kiln  ## tokenize, prepare, generate, evaluate, inspect, plot
	@ln -sf $< $@

$(BUILD)/bin/train_gpt2: $(BUILD)/tools/train_gpt2.o $(LIBRARIES)
$(BUILD)/bin/kiln: $(BUILD)/tools/main.o $(LIBRARIES)
$(BUILD)/bin/%:
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CXX) $(KILN_FLAGS) $(CXXFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/libreference.a: $(REFERENCE)
$(BUILD)/libtokenizer.a: $(TOKENIZER)
$(BUILD)/libtools.a: $(TOOLS)
$(BUILD)/lib%.a:
	@rm -f $@
	@echo "  archive $@"
	$(Q)ar rcs $@ $^

$(BUILD)/%.o: %.cpp
	@mkdir -p $(@D)
	@echo "  compile $<"
	$(Q)$(CXX) $(KILN_FLAGS) $(CXXFLAGS) -MMD -MP -c -o $@ $<

# Some start the programs.
$(BUILD)/tests/%: $(BUILD)/tests/%.o $(TEST_SUPPORT) $(LIBRARIES) | $(BUILD)/bin/train_gpt2 $(BUILD)/bin/kiln
	@echo "  link $@"
	$(Q)$(CXX) $(KILN_FLAGS) $(CXXFLAGS) -o $@ $^ $(TEST_LIBS) $(LIBS)

# The CUDA code, compiled for the host: dev/simt runs it, and stands in for the CUDA libraries. Needs the CUDA headers.
SIMT_FLAGS := -isystem $(CUDA)/include -fno-strict-aliasing -Wno-unknown-pragmas -Wno-psabi
simt        = $(patsubst %,$(BUILD)/simt/%.o,$(basename $(1)))
SIMT       := $(call simt,$(filter-out dev/simt/nvml.cpp,$(wildcard dev/simt/*.cpp cuda/*.cu cuda/*.cpp)))
CUDA_TEST_SUPPORT := $(filter-out %_test.cpp %_device.cpp,$(wildcard tests/cuda/*.cpp tests/cuda/*.cu))
SIMT_TESTS := $(if $(CUDA_HEADERS),$(basename $(call simt,$(wildcard tests/cuda/*_test.cpp))))
TESTS      += $(SIMT_TESTS)

$(BUILD)/libsimt.a: $(SIMT)
$(BUILD)/simt/cuda/require_gpu.o: KILN_FLAGS += -DKILN_GPU_ARCHS='"the emulator"'
# NVML's stand-in is loaded at run time, as NVML is.
$(BUILD)/simt/tests/cuda/simt_nvml_test: | $(BUILD)/simt/libnvidia-ml.so.1
$(BUILD)/simt/libnvidia-ml.so.1: dev/simt/nvml.cpp
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CXX) -std=c++20 -Wall -Wextra -Werror -O1 -fPIC -shared -o $@ $<
$(BUILD)/simt/%.o: %.cu
	@mkdir -p $(@D)
	@echo "  compile $< for the emulator"
	$(Q)$(CXX) $(KILN_FLAGS) $(SIMT_FLAGS) $(CXXFLAGS) -MMD -MP -x c++ -c -o $@ $<
$(BUILD)/simt/%.o: %.cpp
	@mkdir -p $(@D)
	@echo "  compile $< for the emulator"
	$(Q)$(CXX) $(KILN_FLAGS) $(SIMT_FLAGS) $(CXXFLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/simt/tests/%: $(BUILD)/simt/tests/%.o $(call simt,$(CUDA_TEST_SUPPORT)) $(BUILD)/tests/main.o $(BUILD)/tools/sampler.o $(BUILD)/libsimt.a $(BUILD)/libreference.a
	@echo "  link $@"
	$(Q)$(CXX) $(KILN_FLAGS) $(CXXFLAGS) -o $@ $^ $(TEST_LIBS) $(LIBS)

# The programs on the emulator: the whole engine, slowly, where there is no GPU.
SIMT_PROGRAMS := $(BUILD)/simt/train_gpt2cu $(BUILD)/simt/kilncu
$(BUILD)/simt/train_gpt2cu: $(BUILD)/tools/train_gpt2.o
$(BUILD)/simt/kilncu: $(BUILD)/tools/main.o
$(SIMT_PROGRAMS): $(BUILD)/libtools.a $(BUILD)/libsimt.a $(BUILD)/libreference.a $(BUILD)/libtokenizer.a
	@echo "  link $@"
	$(Q)$(CXX) $(KILN_FLAGS) $(CXXFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIBS)
$(patsubst tests/%.cpp,$(BUILD)/tests/%,$(wildcard tests/*_cu_test.cpp)): | $(SIMT_PROGRAMS) $(BUILD)/simt/libnvidia-ml.so.1
simt-programs: $(SIMT_PROGRAMS)  ## train_gpt2cu and kilncu on the emulator, in build/simt

faults: $(SIMT_TESTS)  ## plant faults in the CUDA sources, and see that the tests catch each
	@BUILD=$(BUILD) CXX="$(CXX)" FLAGS="$(KILN_FLAGS) $(SIMT_FLAGS) $(CXXFLAGS) -O1" \
	    LINK="$(BUILD)/tools/sampler.o $(BUILD)/simt/dev/bench/step_work.o $(BUILD)/libsimt.a $(BUILD)/libreference.a $(TEST_LIBS) $(LIBS)" dev/planted_faults.sh $(FAULTS)

# The same sources for a device: nvcc for the kernels, the host compiler for the rest. GPU_ARCHS: those of this machine's
# GPUs; where there is none, one of each generation, whose later chips run its code too.
GPU_ARCHS  ?= $(or $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d . | sort -u | \
                sed 's/^90$$/90a/; s/^100$$/100a/'),75 80 90a 100 120)
NVCC_FLAGS := -std=c++20 -O3 -lineinfo -I. -ccbin $(CXX) -Werror all-warnings -Xcompiler -Wall,-Wextra
gencode     = -gencode=arch=compute_$(1),code=sm_$(1)
gpu         = $(patsubst %,$(BUILD)/gpu/%.o,$(basename $(1)))
GPU_LIBS   := -L$(CUDA)/lib64 -Wl,-rpath,$(CUDA)/lib64 -lcublasLt -lcudart
GPU_TESTS  := $(basename $(call gpu,$(filter-out tests/cuda/simt_%,$(wildcard tests/cuda/*_test.cpp))))
GPU_TEST_SUPPORT := $(filter-out %_test.cpp %_emulated.cpp,$(wildcard tests/cuda/*.cpp tests/cuda/*.cu))

# Rewritten when GPU_ARCHS changes, so that what depends on it is built again.
$(BUILD)/gpu/archs: FORCE
	@mkdir -p $(@D)
	@echo '$(GPU_ARCHS)' | cmp -s - $@ || echo '$(GPU_ARCHS)' >$@
$(call gpu,$(wildcard cuda/*.cu tests/cuda/*.cu dev/bench/*.cu) cuda/require_gpu.cpp): $(BUILD)/gpu/archs
$(BUILD)/gpu/cuda/require_gpu.o: KILN_FLAGS += -DKILN_GPU_ARCHS='"$(GPU_ARCHS)"'

$(BUILD)/libcuda.a: $(call gpu,$(wildcard cuda/*.cu cuda/*.cpp))
$(BUILD)/gpu/%.o: %.cu
	$(if $(CUDA_LIBRARIES),,@dev/left_out.sh "$(NVCC)" "$(CUDA_LIBRARIES)"; exit 1)
	@mkdir -p $(@D)
	@echo "  compile $< for sm $(GPU_ARCHS)"
	$(Q)$(NVCC) $(NVCC_FLAGS) $(foreach a,$(GPU_ARCHS),$(call gencode,$a)) -MMD -MP -c -o $@ $<
$(BUILD)/gpu/%.o: %.cpp
	@mkdir -p $(@D)
	@echo "  compile $<"
	$(Q)$(CXX) $(KILN_FLAGS) -isystem $(CUDA)/include $(CXXFLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/gpu/tests/%: $(BUILD)/gpu/tests/%.o $(call gpu,$(GPU_TEST_SUPPORT)) $(BUILD)/tests/main.o $(BUILD)/tools/sampler.o $(BUILD)/libcuda.a $(BUILD)/libreference.a
	@echo "  link $@"
	$(Q)$(CXX) $(KILN_FLAGS) $(CXXFLAGS) -o $@ $^ $(TEST_LIBS) $(GPU_LIBS) $(LIBS)

# The programs on a GPU. libcuda stands before libreference: both define make_engine.
train_gpt2cu: $(BUILD)/bin/train_gpt2cu  ## the trainer, on a GPU (GPU_ARCHS=90a: built for sm_90a alone)
	@ln -sf $< $@
kilncu: $(BUILD)/bin/kilncu  ## kiln, with models on a GPU
	@ln -sf $< $@
$(BUILD)/bin/train_gpt2cu: $(BUILD)/tools/train_gpt2.o
$(BUILD)/bin/kilncu: $(BUILD)/tools/main.o
$(BUILD)/bin/train_gpt2cu $(BUILD)/bin/kilncu: $(BUILD)/libtools.a $(BUILD)/libcuda.a $(BUILD)/libreference.a $(BUILD)/libtokenizer.a
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CXX) $(KILN_FLAGS) $(CXXFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(GPU_LIBS) $(LIBS)

GPU_CHECKS := $(GPU_TESTS) $(foreach b,step kernels attention,$(BUILD)/gpu/dev/bench/bench_$b)
check-gpu: $(GPU_CHECKS) $(BUILD)/bin/train_gpt2cu $(BUILD)/bin/train_gpt2  ## all tests on this machine's GPU, its speed, and a run beside the CPU's, in 8 minutes
	@BUILD=$(BUILD) CUDA=$(CUDA) dev/check_gpu.sh

# Of the machine that the bundle goes to: every architecture is 30 MiB more.
BUNDLE_ARCHS ?= 90a
gpu-bundle:  ## all that check-gpu needs, for a machine with CUDA and nothing else, in BUILD/gpu-bundle
	@$(MAKE) --no-print-directory BUILD=$(BUILD)-bundle ARCH=x86-64-v3 GPU_ARCHS="$(BUNDLE_ARCHS)" gpu-checks
	@BUILD=$(BUILD)-bundle OUT=$(BUILD)/gpu-bundle dev/gpu_bundle.sh
gpu-checks: $(GPU_CHECKS) $(foreach p,train_gpt2cu kilncu train_gpt2 kiln,$(BUILD)/bin/$(p))

# The cases of the tests, timed. The emulator runs the same program, which says nothing of speed.
BENCH_CASES := $(filter-out %_test.cpp tests/cuda/schedules%,$(wildcard tests/cuda/*.cpp tests/cuda/*.cu)) dev/bench/bench_kernels.cpp
BENCH_SUPPORT := dev/bench/ceilings.cpp dev/bench/step_work.cpp dev/bench/read_memory.cu
$(BUILD)/gpu/dev/bench/bench_kernels: $(call gpu,$(BENCH_CASES) $(BENCH_SUPPORT)) $(BUILD)/tools/sampler.o $(BUILD)/libcuda.a $(BUILD)/libreference.a
	@echo "  link $@"
	$(Q)$(CXX) $(KILN_FLAGS) $(CXXFLAGS) -o $@ $^ $(TEST_LIBS) $(GPU_LIBS) $(LIBS)
$(BUILD)/simt/dev/bench/bench_kernels: $(call simt,$(BENCH_CASES) $(BENCH_SUPPORT)) $(BUILD)/tools/sampler.o $(BUILD)/libsimt.a $(BUILD)/libreference.a
	@echo "  link $@"
	$(Q)$(CXX) $(KILN_FLAGS) $(CXXFLAGS) -o $@ $^ $(TEST_LIBS) $(LIBS)
$(BUILD)/gpu/dev/bench/bench_step: $(call gpu,dev/bench/bench_step.cpp $(BENCH_SUPPORT)) $(BUILD)/libcuda.a $(BUILD)/libreference.a
	@echo "  link $@"
	$(Q)$(CXX) $(KILN_FLAGS) $(CXXFLAGS) -o $@ $^ $(GPU_LIBS) $(LIBS)
$(BUILD)/simt/dev/bench/bench_step: $(call simt,dev/bench/bench_step.cpp $(BENCH_SUPPORT)) $(BUILD)/libsimt.a $(BUILD)/libreference.a
	@echo "  link $@"
	$(Q)$(CXX) $(KILN_FLAGS) $(CXXFLAGS) -o $@ $^ $(LIBS)
$(BUILD)/simt/tests/cuda/bench_step_test: $(BUILD)/simt/dev/bench/step_work.o | $(BUILD)/simt/dev/bench/bench_step
$(BUILD)/gpu/tests/cuda/bench_step_test: $(BUILD)/gpu/dev/bench/step_work.o | $(BUILD)/gpu/dev/bench/bench_step

BENCH_ATTENTION := $(addprefix dev/bench/,bench_attention.cpp mma_rate.cu peer.cpp) $(BENCH_SUPPORT)
$(BUILD)/gpu/dev/bench/bench_attention: $(call gpu,$(BENCH_ATTENTION)) $(BUILD)/libcuda.a $(BUILD)/libreference.a
	@echo "  link $@"
	$(Q)$(CXX) $(KILN_FLAGS) $(CXXFLAGS) -o $@ $^ $(GPU_LIBS) $(LIBS)
$(BUILD)/simt/dev/bench/bench_attention: $(call simt,$(BENCH_ATTENTION)) $(BUILD)/libsimt.a $(BUILD)/libreference.a
	@echo "  link $@"
	$(Q)$(CXX) $(KILN_FLAGS) $(CXXFLAGS) -o $@ $^ $(LIBS)
$(BUILD)/simt/tests/cuda/simt_bench_attention_test: | $(BUILD)/simt/dev/bench/bench_attention

bench-kernels: $(BUILD)/gpu/dev/bench/bench_kernels  ## each kernel on this machine's GPU, beside a copy and a product (BENCH_FLAGS="--filter norm")
	@$< $(BENCH_FLAGS)

bench-attention: $(BUILD)/gpu/dev/bench/bench_attention  ## flash attention on this machine's GPU, in turns with PyTorch's (PYTHON=one that has it)
	@PYTHON=$(or $(PYTHON),$(wildcard $(BUILD)/venv/bin/python)) $< $(BENCH_FLAGS)

profile: $(BUILD)/gpu/dev/bench/bench_step  ## where a step's time goes on this machine's GPU (PROFILE_FLAGS="--model gpt2-xl --batch-size 16")
	@$< $(PROFILE_FLAGS)

# ptxas's report on every kernel; sm_75, which is not in the table, must compile.
PTXAS_LOGS := $(patsubst cuda/%.cu,$(BUILD)/ptxas/%.log,$(wildcard cuda/*.cu))
$(BUILD)/ptxas/%.log: cuda/%.cu
	@mkdir -p $(@D)
	@echo "  ptxas $<"
	$(Q)$(NVCC) $(NVCC_FLAGS) $(foreach a,75 80 90a 120,$(call gencode,$a)) -Xptxas -v -MMD -MP -MF $(@:.log=.d) -MT $@ -c -o /dev/null $< 2>$@.part || { cat $@.part; exit 1; }
	@mv $@.part $@

kernel-table: $(PTXAS_LOGS)  ## registers, shared memory and spills of every kernel, by nvcc; fails on spills that are not listed
	@dev/kernel_table.sh $(PTXAS_LOGS)

ATTENTION_LAUNCHES := $(BUILD)/simt/dev/bench/attention_launches
$(ATTENTION_LAUNCHES): $(call simt,dev/bench/attention_launches.cpp) $(BUILD)/libsimt.a $(BUILD)/libreference.a
	@echo "  link $@"
	$(Q)$(CXX) $(KILN_FLAGS) $(CXXFLAGS) -o $@ $^ $(LIBS)

check-kernel-table: $(if $(NVCC),$(PTXAS_LOGS) $(ATTENTION_LAUNCHES))  ## fails when that table is not the committed one, too
	@NVCC="$(NVCC)" BUILD=$(BUILD) dev/check_kernel_table.sh $(PTXAS_LOGS)
	$(if $(NVCC),@dev/attention_report.sh $(ATTENTION_LAUNCHES) --check)

attention-report: kernel-table $(ATTENTION_LAUNCHES)  ## what the attention kernels take of a multiprocessor, and how many blocks it holds
	@dev/attention_report.sh $(ATTENTION_LAUNCHES)

# The kernels and their tests under the sanitizers, each in a build folder of its own. By clang: gcc's ThreadSanitizer
# leaves some accesses out, and its AddressSanitizer is slower to build. Two schedules under the first and one under the
# second, which sees races in any; blocks run one at a time under both. Of the engine, whose kernels these are, a step of
# each model in one type under the first only; what counts a step's work does so on the host.
LEFT_TO_PLAIN_BUILDS := ten_steps losses schedules micro_batches recompute chunks steps_without graphs generation_between
space := $(subst ,, )
sanitized = $(patsubst $(BUILD)/%,$(BUILD)-$(1)/%,$(filter-out %/bench_step_test %/simt_bench_attention_test,$(SIMT_TESTS)))
sanitize-kernels: sanitize-kernels-address sanitize-kernels-thread  ## the kernels' tests under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer
ifneq ($(and $(CLANG),$(SIMT_TESTS)),)
sanitize-kernels-address:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)-asan CXX='$(CLANG)' SANITIZE=address,undefined CXXFLAGS='-O1 -g1' \
	    $(call sanitized,asan)
	@SIMT_SCHEDULES=2 ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	    GTEST_FILTER='-*_float16:*CudaEngine.*_float32:*.ten_runs*$(subst $(space),,$(LEFT_TO_PLAIN_BUILDS:%=:*CudaEngine.%*))' \
	    BUILD=$(BUILD)-asan \
	    dev/run_tests.sh $(call sanitized,asan)
sanitize-kernels-thread:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)-tsan CXX='$(CLANG)' SANITIZE=thread CXXFLAGS='-O1 -g1' \
	    $(call sanitized,tsan)
	@SIMT_SCHEDULES=1 OMP_NUM_THREADS=1 GTEST_FILTER='-*_float16:*_float32:*CudaEngine*:*.ten_runs*' BUILD=$(BUILD)-tsan \
	    dev/run_tests.sh $(call sanitized,tsan)
else
sanitize-kernels-address sanitize-kernels-thread:
	@echo "$@: skipped: $(if $(CLANG),no CUDA headers,no clang)"
endif

tests: $(TESTS)

quickstart:  ## Tang poems to a small model that writes one, in a few minutes
	@$(MAKE) --no-print-directory setup
	@$(MAKE) --no-print-directory -j$(THREADS) programs
	@dev/quickstart.sh

test:  ## build everything and run every test
	@$(MAKE) --no-print-directory setup
	@$(MAKE) --no-print-directory -j$(THREADS) programs tests
	@dev/check_readme.sh
	@BUILD=$(BUILD) dev/run_tests.sh $(TESTS)

lint:  ## formatting, include rules, file lengths
	@dev/lint.sh

format:  ## let clang-format lay out every source
	@git ls-files -co --exclude-standard '*.h' '*.cpp' '*.cu' '*.cuh' | grep -v unicode_tables.cpp | xargs clang-format -i

$(BUILD)/dev/bench/bench_engine: $(BUILD)/dev/bench/bench_engine.o $(BUILD)/tools/openmp_wait.o $(BUILD)/libreference.a
	@echo "  link $@"
	$(Q)$(CXX) $(KILN_FLAGS) $(CXXFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/dev/bench/bench_%: $(BUILD)/dev/bench/bench_%.o $(BUILD)/libtokenizer.a $(BUILD)/libreference.a
	@echo "  link $@"
	$(Q)$(CXX) $(KILN_FLAGS) $(CXXFLAGS) -o $@ $^ $(LIBS)

bench: $(BUILD)/dev/bench/bench_engine  ## speed beside PyTorch on this CPU, interleaved; makes build/venv
	@BUILD=$(BUILD) dev/bench/run.sh bench.py --engine $(BUILD)/dev/bench/bench_engine

bench-tokenizer: $(BUILD)/dev/bench/bench_tokenizer $(BUILD)/dev/bench/bench_sentencepiece $(BUILD)/bin/kiln  ## the tokenizer's speed beside others, interleaved; makes build/venv
	@BUILD=$(BUILD) dev/bench/run.sh bench_tokenizer.py --build $(BUILD)

# The tokenizer and the data formats under clang's fuzzer; gcc has none.
FUZZ_FLAGS := -std=c++20 -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined,fuzzer-no-link \
              -fno-sanitize-recover=undefined -I.
FUZZ_OBJECTS := $(patsubst %.cpp,$(BUILD)/fuzz/%.o,$(wildcard tokenizer/*.cpp) tests/fuzz_targets.cpp tests/fuzz/fuzz_main.cpp)

fuzz: $(if $(CLANG),$(BUILD)/fuzz/fuzz)  ## every fuzzer for a minute (FUZZ_SECONDS=60); needs clang
	@BUILD=$(BUILD) dev/fuzz.sh

$(BUILD)/fuzz/fuzz: $(FUZZ_OBJECTS)
	@echo "  link $@"
	$(Q)$(CLANG) $(FUZZ_FLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS)

$(BUILD)/fuzz/%.o: %.cpp
	@mkdir -p $(@D)
	@echo "  compile $< for the fuzzers"
	$(Q)$(CLANG) $(FUZZ_FLAGS) -MMD -MP -c -o $@ $<

clean:  ## remove everything that was built
	rm -rf $(BUILD) train_gpt2 train_gpt2cu kiln kilncu

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
