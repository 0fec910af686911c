# Kiln. `make help` lists the targets; README.md says which to begin with. Read this page from top to bottom: the
# programs, then what is tested and measured. How each thing is compiled and linked stands in dev/make/.

BUILD    ?= build
# The processor to build for: `make ARCH=x86-64-v3` makes binaries that run elsewhere too.
ARCH     ?= native
CXX      ?= g++
CXXFLAGS ?= -O3 -g1
# For example address,undefined.
SANITIZE ?=
THREADS  ?= $(shell nproc)
# V=1 shows the commands in full.
Q        := $(if $(V),,@)

NVCC     ?= $(firstword $(wildcard /usr/local/cuda/bin/nvcc) $(shell command -v nvcc 2>/dev/null))
CUDA     ?= $(patsubst %/bin/nvcc,%,$(realpath $(NVCC)))
CLANG    ?= $(firstword $(shell command -v clang++ clang++-14 2>/dev/null))
# The emulator needs CUDA's headers, the programs for a GPU its libraries too.
CUDA_HEADERS   := $(wildcard $(CUDA)/include/cuda_runtime.h)
CUDA_LIBRARIES := $(and $(NVCC),$(wildcard $(CUDA)/lib64/libcublasLt.so))

.PHONY: help FORCE
.DELETE_ON_ERROR:
.SECONDARY:

help:  ## this list
	@dev/help.sh $(MAKEFILE_LIST)

# ---- use: build the programs and run them

.PHONY: setup all programs emulator-programs quickstart clean

setup:  ## install the Debian packages that the programs need (says what it would install when it may not)
	@dev/setup.sh

all: programs $(if $(CUDA_LIBRARIES),train_gpt2cu kilncu)  ## every program this machine can build
	@dev/left_out.sh "$(NVCC)" "$(CUDA_LIBRARIES)"

programs: train_gpt2 kiln
train_gpt2: $(BUILD)/bin/train_gpt2  ## the trainer, on the CPU in float32
kiln: $(BUILD)/bin/kiln  ## tokenize, prepare, generate, evaluate, inspect, plot
train_gpt2cu: $(BUILD)/bin/train_gpt2cu  ## the trainer, on a GPU (GPU_ARCHS=90a: built for sm_90a alone)
kilncu: $(BUILD)/bin/kilncu  ## kiln, with models on a GPU
train_gpt2 kiln train_gpt2cu kilncu:
	@ln -sf $< $@

emulator-programs: $(BUILD)/emulator/bin/train_gpt2cu $(BUILD)/emulator/bin/kilncu  ## both GPU programs for the emulator, in BUILD/emulator/bin: no GPU is needed

quickstart:  ## 400 poems to a small model that writes one, in a few minutes
	@$(MAKE) --no-print-directory setup
	@$(MAKE) --no-print-directory -j$(THREADS) programs
	@dev/quickstart.sh

clean:  ## remove everything that was built
	rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-tsan $(BUILD)-cuda* $(BUILD)-bundle train_gpt2 train_gpt2cu kiln kilncu

include dev/make/compile.mk
include dev/make/tests.mk
include dev/make/bench.mk
include dev/make/checks.mk
include dev/make/interop.mk

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
