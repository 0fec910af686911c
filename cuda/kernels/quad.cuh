#pragma once
// Four elements of any type, for kernels that read tensors of 2-byte and of 4-byte elements: thread i takes
// elements 4 i to 4 i + 3 of each tensor, so that a warp's accesses are contiguous in all of them.
#include "cuda/kernels/pack.cuh"

namespace kiln {

template <class T>
struct alignas(4 * sizeof(T)) Quad {
    T v[4];
    KILN_DEVICE float operator[](int i) const { return to_float(v[i]); }
    KILN_DEVICE void set(int i, float x) { v[i] = from_float<T>(x); }
};

// As load_once and store_once of pack.cuh. The address must be a multiple of sizeof(Quad<T>).
template <class T>
KILN_DEVICE Quad<T> load_quad_once(const T* p) {
    using Bits = std::conditional_t<sizeof(T) == 4, int4, int2>;
    const Bits bits = __ldcs(reinterpret_cast<const Bits*>(p));
    return *reinterpret_cast<const Quad<T>*>(&bits);
}
template <class T>
KILN_DEVICE void store_quad_once(T* p, const Quad<T>& quad) {
    using Bits = std::conditional_t<sizeof(T) == 4, int4, int2>;
    __stcs(reinterpret_cast<Bits*>(p), *reinterpret_cast<const Bits*>(&quad));
}

}  // namespace kiln
