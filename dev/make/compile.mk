# How sources become objects, libraries and programs. Three ways to compile: for the CPU (build/), for the emulator
# (build/emulator/: the CUDA code by the host compiler), and for a GPU (build/gpu/: kernels by nvcc).

# An allocation that fails leaves nlohmann-json's value in a state that its destructor asserts against: run_program's
# terminate handler then reports the lack of memory.
JSON_FLAGS := '-DJSON_ASSERT(condition)=((condition) ? void(0) : std::terminate())'
# What a crash or AddressSanitizer shows without a check of its own; these checks take a third of the time to compile.
SHOWN_ANYWAY := -fno-sanitize=null,vptr,object-size,pointer-overflow
KILN_FLAGS := -std=c++20 -march=$(ARCH) -fopenmp -fno-math-errno -fno-trapping-math -ffp-contract=fast \
              -Wall -Wextra -Werror $(if $(findstring clang,$(CXX)),-Wno-pass-failed) -I. $(JSON_FLAGS) \
              $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer $(if $(findstring undefined,$(SANITIZE)),$(SHOWN_ANYWAY)))
# MPI joins the CPU ranks of several processes, if Open MPI is installed. Empty: one rank.
ifeq ($(origin MPI),undefined)
MPI        := $(shell command -v mpicc)
endif
MPI_LIBS   := $(if $(MPI),$(shell $(MPI) --showme:link))
LIBS       := -Wl,--as-needed -ldnnl -licuuc -lpcre2-8 -lsentencepiece -lsentencepiece_train -lsimdjson -lzstd -lz -lcurl -lpthread $(MPI_LIBS)

# Headers that most sources include are compiled once: dev/make/precompiled/. Empty: not at all.
PRECOMPILE ?= yes
# $(call precompiled,NAME): its path, or nothing. -include finds the precompiled file next to the header.
PRECOMPILED := $(BUILD)/precompiled
precompiled  = $(if $(PRECOMPILE),$(PRECOMPILED)/$(1).h.$(if $(findstring clang,$(CXX)),pch,gch))
include_precompiled = $(if $(PRECOMPILE),-include $(PRECOMPILED)/$(1).h)
# What does not compute itself, tools/ and the tests, compiles in about 0.7 of the time at -O1.
COLD_CXXFLAGS ?= $(patsubst -O3,-O1,$(CXXFLAGS))

define precompile
@mkdir -p $(@D)
@echo "  precompile $<"
@echo '#include "$<"' >$(basename $@)
$(Q)$(CXX) $(KILN_FLAGS) $(1) -MMD -MP -MT $@ -MF $(basename $@).d -x c++-header -o $@ $<
endef

# The one way to link. Objects come first, then the archives in the order in which they need each other.
define link
@mkdir -p $(@D)
@echo "  link $@"
$(Q)$(CXX) $(KILN_FLAGS) $(CXXFLAGS) -o $@ $(sort $(filter %.o,$^)) $(filter %.a,$^) $(TEST_LIBS) $(GPU_LIBS) $(LIBS)
endef

# ---- the CPU

objects   = $(patsubst %.cpp,$(BUILD)/%.o,$(1))
# What a program computes with is the backend object that it is linked with: no archive holds one.
CPU_BACKEND := $(BUILD)/cpu_reference/backend.o
LIBRARIES := $(addprefix $(BUILD)/lib,tools.a reference.a tokenizer.a)

$(BUILD)/libreference.a: $(call objects,$(filter-out cpu_reference/backend.cpp cpu_reference/$(if $(MPI),no_)mpi.cpp,$(wildcard cpu_reference/*.cpp cpu_reference/*/*.cpp)))
$(BUILD)/cpu_reference/mpi.o: private KILN_FLAGS += $(addprefix -isystem ,$(shell $(MPI) --showme:incdirs))
$(BUILD)/libtokenizer.a: $(call objects,$(wildcard tokenizer/*.cpp tokenizer/*/*.cpp))
$(BUILD)/libtools.a: $(call objects,$(wildcard tools/*/*.cpp))
$(BUILD)/lib%.a:
	@rm -f $@
	@mkdir -p $(@D)
	@echo "  archive $@"
	$(Q)ar rcs $@ $^

$(BUILD)/%_test.o: %_test.cpp | $(call precompiled,host_test)
	@mkdir -p $(@D)
	@echo "  compile $<"
	$(Q)$(CXX) $(call include_precompiled,host_test) $(KILN_FLAGS) $(COLD_CXXFLAGS) -MMD -MP -c -o $@ $<
# It looks at every value of a checkpoint.
$(BUILD)/tools/formats/safetensors.o: private COLD_CXXFLAGS := $(CXXFLAGS)
$(BUILD)/tools/%.o: tools/%.cpp | $(call precompiled,host)
	@mkdir -p $(@D)
	@echo "  compile $<"
	$(Q)$(CXX) $(call include_precompiled,host) $(KILN_FLAGS) $(COLD_CXXFLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/%.o: %.cpp | $(call precompiled,host)
	@mkdir -p $(@D)
	@echo "  compile $<"
	$(Q)$(CXX) $(call include_precompiled,host) $(KILN_FLAGS) $(CXXFLAGS) -MMD -MP -c -o $@ $<
$(call precompiled,host): dev/make/precompiled/host.h
	$(call precompile,$(CXXFLAGS))
$(call precompiled,host_test): dev/make/precompiled/host_test.h
	$(call precompile,$(COLD_CXXFLAGS))

$(BUILD)/bin/train_gpt2: $(BUILD)/tools/train_gpt2.o
$(BUILD)/bin/kiln: $(BUILD)/tools/kiln.o
$(BUILD)/bin/train_gpt2 $(BUILD)/bin/kiln: $(CPU_BACKEND) $(LIBRARIES)
	$(link)

# ---- the emulator: dev/emulator runs the kernels, and stands in for the CUDA libraries

EMULATOR_FLAGS := -isystem $(CUDA)/include -fno-strict-aliasing -Wno-unknown-pragmas -Wno-psabi
emulated    = $(patsubst %,$(BUILD)/emulator/%.o,$(basename $(1)))
CUDA_SOURCES := $(filter-out cuda/engine/backend.cpp,$(wildcard cuda/*/*.cu cuda/*/*.cpp))
EMULATED_BACKEND := $(BUILD)/emulator/cuda/engine/backend.o
# The stand-ins of NVML and NCCL are loaded at run time, as these are.
EMULATED_NVML := $(BUILD)/emulator/libnvidia-ml.so.1
EMULATED_NCCL := $(BUILD)/emulator/nccl/libnccl.so.2
LOADED_SOURCES := $(wildcard dev/emulator/libraries/nvml.cpp dev/emulator/libraries/nccl*.cpp)
EMULATED_PROGRAMS := $(BUILD)/emulator/bin/train_gpt2cu $(BUILD)/emulator/bin/kilncu
EMULATED_LIBRARIES := $(BUILD)/libtools.a $(BUILD)/libemulator.a $(BUILD)/libreference.a $(BUILD)/libtokenizer.a

$(BUILD)/libemulator.a: $(call emulated,$(filter-out $(LOADED_SOURCES),$(wildcard dev/emulator/*/*.cpp)) $(CUDA_SOURCES))
# What ptxas gave each kernel, for the emulator's checks of launches.
$(BUILD)/emulator/kernel_resources.inc: dev/bench/kernel_resources.txt
	@mkdir -p $(@D)
	@awk '!/^#/ && match($$0, / [-0-9 ]+$$/) { name = substr($$0, 1, RSTART - 1); $$0 = substr($$0, RSTART); \
	    gsub(/-/, "-1"); $$1 = $$1; gsub(/ /, ", "); print "{\"" name "\", {" $$0 "}}," }' $< >$@
$(BUILD)/emulator/dev/emulator/libraries/cuda_kernels.o: $(BUILD)/emulator/kernel_resources.inc
$(BUILD)/emulator/dev/emulator/libraries/cuda_kernels.o: KILN_FLAGS += -I$(BUILD)/emulator
$(BUILD)/emulator/cuda/device/require_gpu.o: KILN_FLAGS += -DKILN_GPU_ARCHS='"the emulator"'
$(EMULATED_NVML): dev/emulator/libraries/nvml.cpp
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CXX) -std=c++20 -Wall -Wextra -Werror -O1 -fPIC -shared -o $@ $<
$(EMULATED_NCCL): $(filter dev/emulator/libraries/nccl%,$(LOADED_SOURCES)) $(wildcard cuda/parallel/*.h dev/emulator/*/*.h)
	@mkdir -p $(@D)
	@echo "  link $@"
	$(Q)$(CXX) -std=c++20 -Wall -Wextra -Werror -O2 -fPIC -shared -I. $(EMULATOR_FLAGS) -o $@ $(filter %.cpp,$^)
# NCCL's stand-in calls the emulator of the program that loads it. It is found before any real NCCL.
FOR_EMULATED_NCCL := -Wl,--export-dynamic-symbol='_ZN4simt*',--export-dynamic-symbol='cuda*' \
                     -Wl,--disable-new-dtags,-rpath,$(abspath $(BUILD))/emulator/nccl
# $(call emulate,HEADER,FLAGS): HEADER is the precompiled one.
define emulate
@mkdir -p $(@D)
@echo "  compile $< for the emulator"
$(Q)$(CXX) $(call include_precompiled,$(1)) $(KILN_FLAGS) $(EMULATOR_FLAGS) $(2) -MMD -MP -x c++ -c -o $@ $<
endef
$(BUILD)/emulator/tests/%.o: tests/%.cu | $(call precompiled,cuda_test)
	$(call emulate,cuda_test,$(COLD_CXXFLAGS))
$(BUILD)/emulator/tests/%.o: tests/%.cpp | $(call precompiled,cuda_test)
	$(call emulate,cuda_test,$(COLD_CXXFLAGS))
# Their loops over fragments compile for long at -O3, and run hardly faster.
$(BUILD)/emulator/cuda/kernels/flash_%.o: cuda/kernels/flash_%.cu | $(call precompiled,cuda_test)
	$(call emulate,cuda_test,$(COLD_CXXFLAGS))
$(BUILD)/emulator/%.o: %.cu | $(call precompiled,cuda)
	$(call emulate,cuda,$(CXXFLAGS))
$(BUILD)/emulator/%.o: %.cpp | $(call precompiled,cuda)
	$(call emulate,cuda,$(CXXFLAGS))
$(call precompiled,cuda): dev/make/precompiled/cuda.h
	$(call precompile,$(EMULATOR_FLAGS) $(CXXFLAGS))
$(call precompiled,cuda_test): dev/make/precompiled/cuda_test.h
	$(call precompile,$(EMULATOR_FLAGS) $(COLD_CXXFLAGS))

$(BUILD)/emulator/bin/train_gpt2cu: $(BUILD)/tools/train_gpt2.o
$(BUILD)/emulator/bin/kilncu: $(BUILD)/tools/kiln.o
$(EMULATED_PROGRAMS): GPU_LIBS := $(FOR_EMULATED_NCCL)
$(EMULATED_PROGRAMS): $(EMULATED_BACKEND) $(EMULATED_LIBRARIES) | $(EMULATED_NCCL)
	$(link)

CUDA_BENCHES := $(addprefix dev/bench/bench_,step kernels attention)

# ---- a GPU. GPU_ARCHS: those of this machine's GPUs; where there is none, one of each generation that this nvcc knows,
# whose later chips run its code too. nvidia-smi prints its errors where the numbers would be.

NVCC_ARCHS  = $(patsubst compute_%,%,$(shell $(NVCC) --list-gpu-arch))
known_archs = $(strip $(foreach a,$(1),$(if $(filter $(a:a=),$(NVCC_ARCHS)),$a)))
GPU_ARCHS  ?= $(or $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d . | \
                grep -x '[0-9]*' | sort -u | sed 's/^90$$/90a/; s/^100$$/100a/'),$(call known_archs,75 80 90a 100 120))
NVCC_FLAGS := -std=c++20 -O3 -lineinfo -I. -ccbin $(CXX) -Werror all-warnings -Xcompiler -Wall,-Wextra
gencode     = -gencode=arch=compute_$(1),code=sm_$(1)
gpu         = $(patsubst %,$(BUILD)/gpu/%.o,$(basename $(1)))
GPU_BACKEND := $(BUILD)/gpu/cuda/engine/backend.o
GPU_PROGRAMS := $(BUILD)/bin/train_gpt2cu $(BUILD)/bin/kilncu
GPU_LIBRARIES := $(BUILD)/libtools.a $(BUILD)/libcuda.a $(BUILD)/libreference.a $(BUILD)/libtokenizer.a

# Rewritten when GPU_ARCHS changes, so that what depends on it is built again.
$(BUILD)/gpu/archs: FORCE
	@mkdir -p $(@D)
	@echo '$(GPU_ARCHS)' | cmp -s - $@ || echo '$(GPU_ARCHS)' >$@
$(call gpu,$(wildcard cuda/*/*.cu tests/cuda/*/*.cu dev/bench/*/*.cu) cuda/device/require_gpu.cpp): $(BUILD)/gpu/archs
$(BUILD)/gpu/cuda/device/require_gpu.o: KILN_FLAGS += -DKILN_GPU_ARCHS='"$(GPU_ARCHS)"'

$(BUILD)/libcuda.a: $(call gpu,$(CUDA_SOURCES))
$(BUILD)/gpu/%.o: %.cu
	$(if $(CUDA_LIBRARIES),,@dev/left_out.sh "$(NVCC)" "$(CUDA_LIBRARIES)"; exit 1)
	@mkdir -p $(@D)
	@echo "  compile $< for sm $(GPU_ARCHS)"
	$(Q)$(NVCC) $(NVCC_FLAGS) $(foreach a,$(GPU_ARCHS),$(call gencode,$a)) -MMD -MP -c -o $@ $<
$(BUILD)/gpu/%.o: %.cpp
	@mkdir -p $(@D)
	@echo "  compile $<"
	$(Q)$(CXX) $(KILN_FLAGS) -isystem $(CUDA)/include $(CXXFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/bin/train_gpt2cu: $(BUILD)/tools/train_gpt2.o
$(BUILD)/bin/kilncu: $(BUILD)/tools/kiln.o
$(GPU_PROGRAMS) $(BUILD)/gpu/tests/% $(BUILD)/gpu/dev/bench/%: GPU_LIBS := -L$(CUDA)/lib64 -Wl,-rpath,$(CUDA)/lib64 -lcublasLt -lcudart
$(GPU_PROGRAMS): $(GPU_BACKEND) $(GPU_LIBRARIES)
	$(link)
