#pragma once
// Elements as the memory likes them: 16 bytes at a time, with float32 arithmetic in between.
#include "cuda/device/launch.h"

namespace kiln {

KILN_DEVICE float to_float(float x) {
    return x;
}
KILN_DEVICE float to_float(__nv_bfloat16 x) {
    return __bfloat162float(x);
}
KILN_DEVICE float to_float(__half x) {
    return __half2float(x);
}
template <class T>
KILN_DEVICE T from_float(float x) {  // rounds to nearest even
    if constexpr (std::is_same_v<T, float>) {
        return x;
    } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {
        return __float2bfloat16_rn(x);
    } else {
        return __float2half_rn(x);
    }
}

// 16 bytes of T. The address must be a multiple of 16, or the launch fails.
template <class T>
struct alignas(16) Pack {
    static constexpr int kSize = 16 / sizeof(T);
    T v[kSize];
    KILN_DEVICE float operator[](int i) const { return to_float(v[i]); }
    KILN_DEVICE void set(int i, float x) { v[i] = from_float<T>(x); }
};

// So many of T where rows are not of whole packs.
template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Elements {
    T v[kWidth];
};

// For the emulator's reports: the line of the kernel that calls.
#ifdef __CUDACC__
#define KILN_AT
#define KILN_CHECK_ALIGNED(p)
#define KILN_FORGET(word) asm volatile("" : "+r"(word))
#else
#define KILN_AT , simt::Where where = simt::Where::here()
#define KILN_CHECK_ALIGNED(p) simt::check_aligned(p, 16, where)
#define KILN_FORGET(word)
#endif

// The compiler forgets what it has computed from the pack: four registers to keep, not the eight floats in it.
template <class T>
KILN_DEVICE void keep_packed(Pack<T>& pack) {
    int4 words = *reinterpret_cast<const int4*>(&pack);
    KILN_FORGET(words.x);
    KILN_FORGET(words.y);
    KILN_FORGET(words.z);
    KILN_FORGET(words.w);
    pack = *reinterpret_cast<const Pack<T>*>(&words);
}

template <class T>
KILN_DEVICE Pack<T> load(const T* p KILN_AT) {
    KILN_CHECK_ALIGNED(p);
    return *reinterpret_cast<const Pack<T>*>(p);
}
template <class T>
KILN_DEVICE void store(T* p, const Pack<T>& pack KILN_AT) {
    KILN_CHECK_ALIGNED(p);
    *reinterpret_cast<Pack<T>*>(p) = pack;
}
// Of what nobody will read again soon: leaves the cache to others.
template <class T>
KILN_DEVICE Pack<T> load_once(const T* p KILN_AT) {
    KILN_CHECK_ALIGNED(p);
    const int4 bits = __ldcs(reinterpret_cast<const int4*>(p));
    return *reinterpret_cast<const Pack<T>*>(&bits);
}
template <class T>
KILN_DEVICE void store_once(T* p, const Pack<T>& pack KILN_AT) {
    KILN_CHECK_ALIGNED(p);
    __stcs(reinterpret_cast<int4*>(p), *reinterpret_cast<const int4*>(&pack));
}

}  // namespace kiln
