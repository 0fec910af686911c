#pragma once
// How the host executes cuda/kernels/hopper.cuh: mbarriers, TMA copies and wgmma. See "Hopper" in dev/docs/emulator.md.
#include <cuda.h>

#include "dev/emulator/core/simt.h"

namespace simt {

// --- mbarriers. The eight bytes of the barrier hold its state.
void mbarrier_init(uint64_t* barrier, unsigned arrivals, Where where);
void mbarrier_arrive(uint64_t* barrier, unsigned expected_bytes, Where where);
void mbarrier_wait(uint64_t* barrier, unsigned parity, Where where);  // until the phase of that parity is complete
void fence_mbarrier_init(Where where);

// --- The asynchronous proxy. TMA and wgmma see shared memory as it was at the last fence_proxy_async, plus what TMA
// itself wrote. Without the fence they see stale data or NaN.
void fence_proxy_async(Where where);
// The address in that view for `p`; outside dynamic shared memory it is p.
unsigned char* async_view(const void* p);

// --- TMA. The seed decides when a box lands; until then it is NaN. Coordinates start with the innermost.
void tma_load(void* dst, const CUtensorMap* map, const int* at, int rank, uint64_t* barrier, Where where);
void tma_store(const CUtensorMap* map, const int* at, int rank, const void* src, Where where);
void tma_store_commit();
// Waits until at most `pending` groups are not complete. read_only: only until they have read shared memory.
void tma_store_wait(int pending, bool read_only);

// --- wgmma. A descriptor has the bits of a real one; its addresses are offsets in the block's dynamic shared memory.
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
