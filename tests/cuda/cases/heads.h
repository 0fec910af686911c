#pragma once
#include "cpu_reference/interface/dropout.h"
#include "tests/cuda/kernel_case.h"

namespace kiln::test {

// The heads of a row of qkv.
struct Heads {
    explicit Heads(const Shape& shape)
        : NH(dim(shape, "NH")), NKV(dim(shape, "NKV")), HS(dim(shape, "HS")), QKV((NH + 2 * NKV) * HS) {}
    const int NH, NKV, HS, QKV;
};
// B sequences of T rows.
struct Sequences : Heads {
    explicit Sequences(const Shape& shape) : Heads(shape), B(dim(shape, "B")), T(dim(shape, "T")) {}
    size_t qkv_elems() const { return size_t(B) * T * QKV; }
    size_t out_elems() const { return size_t(B) * T * NH * HS; }
    size_t lse_elems() const { return size_t(B) * NH * T; }
    const int B, T;
};

// A shape with heads and other dimensions.
inline Shape with_heads(Shape shape, int NH, int NKV, int HS) {
    shape.insert(shape.end(), {{"NH", NH}, {"NKV", NKV}, {"HS", HS}});
    return shape;
}
inline Shape sequences(int B, int T, int NH, int NKV, int HS) {
    return with_heads({{"B", B}, {"T", T}}, NH, NKV, HS);
}

// Inputs of attention: scores of several units, so that probabilities differ and maxima change.
constexpr float kInputScale = 2.5f;
constexpr Dropout attention_dropout(float p) {
    return {p, 7, (uint64_t(3) << 32) + 5, RngStream::dropout_attention, 11};
}

}  // namespace kiln::test
