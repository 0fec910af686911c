#pragma once
// The architectures that the emulator can play, and what each of them allows a launch.

namespace simt {

struct Architecture {
    int capability;  // 10 times its major version, plus its minor one: 75 is sm_75
    int code;        // whose code it runs: a column of dev/bench/kernel_resources.txt
    // Bytes of shared memory: what a block has at most, what a multiprocessor has, and what the driver takes of that
    // for each block.
    int block_shared, multiprocessor_shared, reserved_shared;
    int multiprocessor_threads, multiprocessor_blocks;
};

// The same on each of them.
constexpr int kBlockShared = 48 << 10;  // bytes of a block, unless cudaFuncSetAttribute allows more
constexpr int kRegisters = 64 << 10;    // of a block, and of a multiprocessor
constexpr int kMaxThreads = 1024;       // of a block
constexpr unsigned kMaxBlockZ = 64, kMaxGridX = 0x7fffffff, kMaxGridYZ = 65535;

// The one that is played: at first what SIMT_ARCH of the environment says, or 90.
const Architecture& architecture();
// Throws Failure if there is none with this capability. No launch may be queued.
void set_architecture(int capability);
// Each architecture is a device, so that what a program has remembered of one device is not used for another. The first
// one that is played is device 0.
int device_ordinal();

}  // namespace simt
