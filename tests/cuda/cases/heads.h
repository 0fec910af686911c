#pragma once
#include "tests/cuda/kernel_case.h"

namespace kiln::test {

// How a row of qkv is cut into heads: what the cases of all kernels on such rows read of a shape.
struct Heads {
    explicit Heads(const Shape& shape)
        : NH(dim(shape, "NH")), NKV(dim(shape, "NKV")), HS(dim(shape, "HS")), QKV((NH + 2 * NKV) * HS) {}
    const int NH, NKV, HS, QKV;
};
// A shape of other dimensions, with those.
inline Shape with_heads(Shape shape, int NH, int NKV, int HS) {
    shape.insert(shape.end(), {{"NH", NH}, {"NKV", NKV}, {"HS", HS}});
    return shape;
}

}  // namespace kiln::test
