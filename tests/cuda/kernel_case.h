#pragma once
// A case is one launch of one kernel. Tests compare its outputs with a reference; the benchmark measures its time. A
// family of cases lists shapes for each of the two.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "cuda/device/element_types.h"
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
    // Queues the kernel. Called once before check(), many times by the benchmark.
    virtual void launch(cudaStream_t stream) = 0;
    // Compares every output with the reference, and checks the sentinels. Reports failures to GoogleTest.
    virtual void check() = 0;
    void launch_and_wait();
    // Of one launch, by the formulas in the kernel's comment. flops 0: not reported.
    double bytes = 0, flops = 0;
};

struct KernelFamily {
    std::string name;  // usually of the launcher: "rmsnorm_forward"
    std::vector<Element> elements;
    std::vector<Shape> test_shapes, bench_shapes;
    std::function<std::unique_ptr<KernelCase>(Element, const Shape&)> make;
    // The least compute capability, times 10, for all element types and for bfloat16 (mma.sync has it from sm_80 on).
    int needs = 0, bfloat16_needs = 0;
};

// All families of tests/cuda/cases.
const std::vector<KernelFamily>& kernel_families();

// A family's `make` for `template <class T> struct Case : KernelCase` with a constructor Case(const Shape&).
template <template <class> class Case>
std::unique_ptr<KernelCase> make(Element element, const Shape& shape) {
    KILN_IF_FLOAT32(if (element == Element::float32) return std::make_unique<Case<float>>(shape);)
    KILN_IF_BFLOAT16(if (element == Element::bfloat16) return std::make_unique<Case<__nv_bfloat16>>(shape);)
    KILN_IF_FLOAT16(if (element == Element::float16) return std::make_unique<Case<__half>>(shape);)
    throw Error("these tests were compiled without the element type");
}
// The same for kernels that only have the 16-bit types.
template <template <class> class Case>
std::unique_ptr<KernelCase> make_narrow(Element element, const Shape& shape) {
    KILN_IF_BFLOAT16(if (element == Element::bfloat16) return std::make_unique<Case<__nv_bfloat16>>(shape);)
    KILN_IF_FLOAT16(if (element == Element::float16) return std::make_unique<Case<__half>>(shape);)
    throw Error("these tests were compiled without the element type");
}

// --- Tensors of a case.

// A hash of the bytes of all tensors that exist.
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

// The numbers of a tensor: all of them, or the first kPeriod, after which they begin again. The device repeats them, so
// that the benchmark's tensors of up to 3e9 elements are made quickly.
struct Values {
    static constexpr size_t kPeriod = size_t(1) << 20;
    Values(std::vector<float> all) : period(std::move(all)), elems(period.size()) {}
    Values(std::vector<float> period, size_t elems) : period(std::move(period)), elems(elems) {}
    operator std::vector<float>() const;  // all of them
    std::vector<float> period;
    size_t elems;
};

// A device array with a sentinel after it. On the host, its values are floats.
template <class T>
class Tensor : AnyTensor {
public:
    explicit Tensor(size_t elems);   // filled with NaN, for an output with =
    explicit Tensor(Values values);  // rounded to T
    T* get() const { return buffer_.get(); }
    size_t size() const { return elems_; }
    const std::vector<float>& values() const;  // the initial values, rounded
    std::vector<float> read() const;           // the present values
    std::vector<T> raw() const;
    void expect_sentinel(const std::string& name) const;

private:
    uint64_t hash() const override;
    static constexpr size_t kSentinelBytes = 64;
    size_t elems_;
    mutable Values values_;
    DeviceBuffer<T> buffer_;
};

// Waits for the fills and copies of the legacy stream, for which the streams of a test do not wait.
inline void wait_for_legacy_stream() {
    CUDA_CHECK(cudaStreamSynchronize(nullptr));
}

template <class T>
DeviceBuffer<T> on_device(const std::vector<T>& values) {
    DeviceBuffer<T> buffer(values.size());
    if (!values.empty()) CUDA_CHECK(cudaMemcpy(buffer.get(), values.data(), buffer.bytes(), cudaMemcpyHostToDevice));
    wait_for_legacy_stream();
    return buffer;
}

// Uniform in [-scale, scale]; the same numbers in every run for the same `salt`.
Values random_values(size_t elems, unsigned salt, float scale = 1);
template <class T>
std::vector<float> rounded(std::vector<float> values);  // to T and back

// Compares with `expected`, the float32 reference on the same (rounded) inputs. `naive` is what a plain program
// computes that keeps its tensors in T, usually rounded<T>(expected). The largest error allowed is twice the largest
// error of `naive`, or `float_terms` roundings of float32 at the size of the largest value if that is more. Also checks
// the sentinel.
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
