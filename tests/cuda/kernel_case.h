#pragma once
// One launch of one kernel: what the tests compare and what the benchmark times. A family lists its shapes once for
// each of the two.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cuda/device/handles.h"
#include "tests/cuda/element.h"

namespace kiln::test {

// Dimensions by their letters: {{"N", 5}, {"C", 768}}.
using Shape = std::vector<std::pair<std::string, int>>;
int dim(const Shape& shape, const std::string& name);  // throws if there is none
std::string to_string(const Shape& shape);             // "N=5 C=768"

class KernelCase {
public:
    virtual ~KernelCase() = default;
    // Queues the launcher. Called once before check(), many times by the benchmark.
    virtual void launch(cudaStream_t stream) = 0;
    // Compares every output with the reference, and looks at the sentinels. Test failures are GoogleTest's.
    virtual void check() = 0;
    // Of one launch, from the formula in the kernel's comment; flops 0: not worth a figure.
    double bytes = 0, flops = 0;
};

struct KernelFamily {
    std::string name;  // the launcher's: "rmsnorm_forward"
    std::vector<Element> elements;
    std::vector<Shape> test_shapes, bench_shapes;
    std::function<std::unique_ptr<KernelCase>(Element, const Shape&)> make;
};

// All of them; each file of cases adds its own.
const std::vector<KernelFamily>& kernel_families();

// make<MyCase>: a family's `make` out of `template <class T> struct MyCase : KernelCase` with MyCase(const Shape&).
template <template <class> class Case>
std::unique_ptr<KernelCase> make(Element element, const Shape& shape) {
    switch (element) {
        case Element::float32:
            return std::make_unique<Case<float>>(shape);
        case Element::bfloat16:
            return std::make_unique<Case<__nv_bfloat16>>(shape);
        default:
            return std::make_unique<Case<__half>>(shape);
    }
}
// make_narrow<MyCase>: the same for kernels of the 16-bit types alone.
template <template <class> class Case>
std::unique_ptr<KernelCase> make_narrow(Element element, const Shape& shape) {
    if (element == Element::bfloat16) return std::make_unique<Case<__nv_bfloat16>>(shape);
    return std::make_unique<Case<__half>>(shape);
}

// --- Tensors of a case.

// The bytes of every tensor that lives, hashed.
uint64_t hash_of_tensors();

class AnyTensor {
protected:
    AnyTensor();
    AnyTensor(const AnyTensor&) = delete;
    virtual ~AnyTensor();

private:
    friend uint64_t hash_of_tensors();
    virtual uint64_t hash() const = 0;
};

// A device array with a sentinel after it. Values are floats on the host, rounded to T.
template <class T>
class Tensor : AnyTensor {
public:
    explicit Tensor(size_t elems);                    // NaN: an output with =
    Tensor(size_t elems, std::vector<float> values);  // rounded to T
    T* get() const { return buffer_.get(); }
    size_t size() const { return elems_; }
    const std::vector<float>& values() const { return values_; }  // as they were put in
    std::vector<float> read() const;                              // as they are now
    std::vector<T> raw() const;
    void expect_sentinel(const std::string& name) const;

private:
    uint64_t hash() const override;
    static constexpr size_t kSentinelBytes = 64;
    size_t elems_;
    std::vector<float> values_;
    DeviceBuffer<T> buffer_;
};

// The same numbers every time: uniform in [-scale, scale] by position and `salt`.
std::vector<float> random_values(size_t elems, unsigned salt, float scale = 1);
template <class T>
std::vector<float> rounded(std::vector<float> values);  // to T and back

// `expected` is the float32 reference on the same (rounded) inputs; `naive` what the plainest program would get that
// keeps its tensors in T: usually rounded<T>(expected). Nothing may be further off than twice the worst error of
// `naive`, or than `float_terms` roundings of float32 at the size of the largest value, where the naive run has none.
// Also looks at the sentinel.
template <class T>
void expect_close(const std::string& name, const Tensor<T>& actual, const std::vector<float>& expected,
                  const std::vector<float>& naive, double float_terms = 8);
template <class T>
void expect_close(const std::string& name, const Tensor<T>& actual, const std::vector<float>& expected,
                  double float_terms = 8) {
    expect_close(name, actual, expected, rounded<T>(expected), float_terms);
}
void expect_close(const std::string& name, const std::vector<float>& actual, const std::vector<float>& expected,
                  const std::vector<float>& naive, double float_terms);

}  // namespace kiln::test
