#pragma once
// Loads and stores of 16 bytes, the widest that a thread has. Arithmetic on the elements is float32.
#include "cuda/device/convert.h"
#include "cuda/device/launch.h"

namespace kiln {

// 16 bytes of T. The address must be a multiple of 16; otherwise the launch fails.
template <class T>
struct alignas(16) Pack {
    static constexpr int kSize = 16 / sizeof(T);
    T v[kSize];
    KILN_DEVICE float operator[](int i) const { return to_float(v[i]); }
    KILN_DEVICE void set(int i, float x) { v[i] = from_float<T>(x); }
};

// kWidth elements, for rows whose length is not a multiple of a pack.
template <class T, int kWidth>
struct alignas(sizeof(T) * kWidth) Elements {
    T v[kWidth];
};

#ifdef __CUDACC__
#define KILN_CHECK_ALIGNED(p)
#define KILN_FORGET(word) asm volatile("" : "+r"(word))
#else
#define KILN_CHECK_ALIGNED(p) simt::check_aligned(p, 16, where)
#define KILN_FORGET(word)
#endif

// Makes the compiler keep the pack in four registers. Without it, the compiler may keep the eight floats computed from
// the pack instead.
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
// Loads data that is not read again soon: the hardware evicts it from the cache first.
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
