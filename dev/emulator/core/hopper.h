#pragma once
// What cuda/kernels/hopper.cuh means on the host: mbarriers, TMA copies and wgmma. dev/docs/emulator.md, "Hopper".
#include <cuda.h>

#include "dev/emulator/core/simt.h"

namespace simt {

// --- mbarriers: the state lies in the barrier's own eight bytes.
void mbarrier_init(uint64_t* barrier, unsigned arrivals, Where where);
void mbarrier_arrive(uint64_t* barrier, unsigned expected_bytes, Where where);
void mbarrier_wait(uint64_t* barrier, unsigned parity, Where where);  // until the phase of that parity is complete
void fence_mbarrier_init(Where where);

// --- The asynchronous proxy, through which TMA and wgmma see shared memory: as it was at the last fence_proxy_async,
// and with what TMA itself wrote. A missing fence is stale data, or NaN.
void fence_proxy_async(Where where);
// Where that view keeps what lies at `p`; p itself outside dynamic shared memory.
unsigned char* async_view(const void* p);

// --- TMA. A box lands at a moment of the seed's choice and is NaN until then; coordinates innermost first.
void tma_load(void* dst, const CUtensorMap* map, const int* at, int rank, uint64_t* barrier, Where where);
void tma_store(const CUtensorMap* map, const int* at, int rank, const void* src, Where where);
void tma_store_commit();
// Until at most `pending` groups are under way. read_only: only until they have read shared memory.
void tma_store_wait(int pending, bool read_only);

// --- wgmma: a descriptor has the bits of a real one, addresses counted from the block's dynamic shared memory.
struct WgmmaOp {
    float* d;           // this thread's N / 2 accumulators
    const uint32_t* a;  // this thread's fragment of A, or null: a_descriptor
    uint64_t a_descriptor, b_descriptor;
    int N;
    bool add, a_transposed, b_transposed;
    float (*to_float)(uint16_t);
};
uint32_t shared_offset(const void* p, Where where);
void wgmma_fence(Where where);
void wgmma(const WgmmaOp& op, Where where);
void wgmma_commit(Where where);
void wgmma_wait(int pending, Where where);

}  // namespace simt
