# What Kiln reads and writes, against the libraries and programs that others use, in Python. Nothing else needs Python.

.PHONY: test-interop
INTEROP_PROGRAMS := $(patsubst %.cpp,$(BUILD)/%,$(wildcard dev/interop/*.cpp))
$(INTEROP_PROGRAMS): %: %.o $(CPU_BACKEND) $(LIBRARIES)
	$(link)

test-interop: $(INTEROP_PROGRAMS) $(BUILD)/bin/kiln $(BUILD)/bin/train_gpt2  ## what others read and write, against their own libraries; makes build/venv (INTEROP="hf" runs one)
	@BUILD=$(BUILD) dev/interop/run.sh $(or $(INTEROP),$(basename $(notdir $(wildcard dev/interop/*.py))))
