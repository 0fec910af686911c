# The benchmarks: dev/bench/bench_*.cpp, for the CPU and for a GPU. On the emulator they are only tested.

# ---- measure: how fast it is, and where the time goes

.PHONY: bench bench-ranks bench-tokenizer bench-kernels bench-attention profile scaling-report
CPU_BENCHES := $(addprefix $(BUILD)/dev/bench/bench_,engine saving tokenizer sentencepiece)
$(CPU_BENCHES): %: %.o $(CPU_BACKEND) $(LIBRARIES)
	$(link)

BENCH_OPTIONS := $(call objects,$(wildcard tools/cli/*.cpp))
BENCH_SUPPORT := $(wildcard dev/bench/support/*.cpp dev/bench/support/*.cu)
$(BUILD)/libgpubench.a: $(call gpu,$(BENCH_SUPPORT))
$(BUILD)/libemulatedbench.a: $(call emulated,$(BENCH_SUPPORT))
# The benchmark of the kernels measures the cases of their tests.
$(BUILD)/gpu/dev/bench/bench_kernels: $(call gpu,$(CUDA_CASES))
$(BUILD)/emulator/dev/bench/bench_kernels: $(call emulated,$(CUDA_CASES))
$(BUILD)/%/dev/bench/bench_kernels: TEST_LIBS := -lgtest
$(addprefix $(BUILD)/gpu/,$(CUDA_BENCHES)): %: %.o $(BENCH_OPTIONS) $(BUILD)/libgpubench.a $(BUILD)/libcuda.a $(BUILD)/libreference.a $(BUILD)/libtokenizer.a
	$(link)
EMULATED_BENCHES := $(addprefix $(BUILD)/emulator/,$(CUDA_BENCHES) $(addprefix dev/bench/,attention_report scaling_report))
$(EMULATED_BENCHES): %: %.o $(BENCH_OPTIONS) $(BUILD)/libemulatedbench.a $(BUILD)/libemulator.a $(BUILD)/libreference.a $(BUILD)/libtokenizer.a
	$(link)

bench: $(BUILD)/dev/bench/bench_engine $(BUILD)/dev/bench/bench_saving  ## speed on this CPU, interleaved with PyTorch, and what saving costs; makes build/venv
	@$(BUILD)/dev/bench/bench_saving --output $(BUILD)
	@dev/bench/bench_ranks.py --engine $(BUILD)/dev/bench/bench_engine
	@BUILD=$(BUILD) dev/bench/run.sh bench.py --engine $(BUILD)/dev/bench/bench_engine

bench-ranks: $(BUILD)/dev/bench/bench_engine  ## two MPI processes of one thread compared with one
	@dev/bench/bench_ranks.py --engine $<

bench-tokenizer: $(BUILD)/dev/bench/bench_tokenizer $(BUILD)/dev/bench/bench_sentencepiece $(BUILD)/bin/kiln  ## the tokenizer's speed, interleaved with other tokenizers; makes build/venv
	@BUILD=$(BUILD) dev/bench/run.sh bench_tokenizer.py --build $(BUILD)

# Without a GPU these targets end in one line, before every kernel is compiled, unless the program's flags say that it
# measures nothing: then its build for the emulator does. $1: the program. $2: its flags.
GPU_DEVICE := $(wildcard /dev/nvidiactl /dev/dxg /dev/nvhost-gpu)
gpu_bench   = $(if $(GPU_DEVICE),$(BUILD)/gpu/dev/bench/$1,$(if $(filter --help -h --predict,$2),$(BUILD)/emulator/dev/bench/$1))
run_bench   = @$(if $<,$1 $< $2,echo "make $@: there is no NVIDIA GPU on this machine$3" >&2; exit 1)

bench-kernels: $(call gpu_bench,bench_kernels,$(BENCH_FLAGS))  ## each kernel on this machine's GPU, compared with a copy and a matmul (BENCH_FLAGS="--filter norm")
	$(call run_bench,,$(BENCH_FLAGS))

bench-attention: $(call gpu_bench,bench_attention,$(BENCH_FLAGS))  ## flash attention on this machine's GPU, interleaved with PyTorch's (PYTHON=one that has it)
	$(call run_bench,PYTHON=$(or $(PYTHON),$(wildcard $(BUILD)/venv/bin/python)),$(BENCH_FLAGS))

profile: $(call gpu_bench,bench_step,$(PROFILE_FLAGS))  ## where a step's time goes on this machine's GPU (PROFILE_FLAGS="--model gpt2-xl --batch-size 16")
	$(call run_bench,,$(PROFILE_FLAGS),; PROFILE_FLAGS=--predict computes the least times without one)

SCALING_REPORT := $(BUILD)/emulator/dev/bench/scaling_report
scaling-report: $(SCALING_REPORT)  ## the predicted step on several GPUs, into dev/docs/scaling.md; needs no GPU (SCALING_FLAGS="--model gpt2 --step-ms 120" prints one)
	@$(SCALING_REPORT) $(SCALING_FLAGS) $(if $(SCALING_FLAGS),,>$<.md && \
	    sed -i -e '/^<!-- tables/,/^<!-- end/{//!d}' -e '/^<!-- tables/r $<.md' dev/docs/scaling.md)
$(BUILD)/emulator/tests/emulator/bench/scaling_test: | $(SCALING_REPORT)
