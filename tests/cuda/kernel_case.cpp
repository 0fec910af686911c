#include "tests/cuda/kernel_case.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string_view>

#include "cpu_reference/interface/error.h"
#include "dev/bench/support/repeat.h"
#include "tests/cuda/cases/cases.h"

namespace kiln::test {

int dim(const Shape& shape, const std::string& name) {
    for (const auto& [key, value] : shape) {
        if (key == name) return value;
    }
    throw Error("the shape " + to_string(shape) + " has no " + name);
}

std::string to_string(const Shape& shape) {
    std::string text;
    for (const auto& [key, value] : shape) text += (text.empty() ? "" : " ") + key + "=" + std::to_string(value);
    return text;
}

const std::vector<KernelFamily>& kernel_families() {
    static const std::vector<KernelFamily> all = [] {
        std::vector<KernelFamily> families;
        add_all_families(families);
        return families;
    }();
    return all;
}

void KernelCase::launch_and_wait() {
    const Stream stream;
    launch(stream);
    stream.synchronize();
}

namespace {

constexpr unsigned char kSentinel = 0xA5;

std::vector<const AnyTensor*>& living() {
    static std::vector<const AnyTensor*> tensors;
    return tensors;
}

}  // namespace

AnyTensor::AnyTensor() {
    living().push_back(this);
}

AnyTensor::~AnyTensor() {
    std::erase(living(), this);
}

uint64_t hash_of_tensors() {
    uint64_t hash = 0;
    for (const AnyTensor* tensor : living()) hash = hash * 0x9E3779B97F4A7C15u + tensor->hash();
    return hash;
}

template <class T>
uint64_t Tensor<T>::hash() const {
    const std::vector<T> bits = raw();
    return std::hash<std::string_view>()({reinterpret_cast<const char*>(bits.data()), bits.size() * sizeof(T)});
}

Values::operator std::vector<float>() const {
    std::vector<float> all = period;
    all.resize(elems);
    for (size_t i = period.size(); i < elems; ++i) all[i] = all[i - period.size()];
    return all;
}

template <class T>
Tensor<T>::Tensor(size_t elems) : elems_(elems), values_({}), buffer_(elems + kSentinelBytes / sizeof(T)) {
    CUDA_CHECK(cudaMemset(buffer_.get(), 0xff, elems * sizeof(T)));
    CUDA_CHECK(cudaMemset(buffer_.get() + elems, kSentinel, kSentinelBytes));
    wait_for_legacy_stream();
}

template <class T>
Tensor<T>::Tensor(Values values) : Tensor(values.elems) {
    values_ = std::move(values);
    std::vector<T> raw(values_.period.size());
    for (size_t i = 0; i < raw.size(); ++i) {
        raw[i] = from_float<T>(values_.period[i]);
        values_.period[i] = to_float(raw[i]);
    }
    if (elems_ > 0) CUDA_CHECK(cudaMemcpy(buffer_.get(), raw.data(), raw.size() * sizeof(T), cudaMemcpyHostToDevice));
    bench::repeat(buffer_.get(), raw.size(), elems_, nullptr);
    wait_for_legacy_stream();
}

template <class T>
const std::vector<float>& Tensor<T>::values() const {
    if (values_.period.size() < values_.elems) values_ = std::vector<float>(values_);
    return values_.period;
}

template <class T>
std::vector<T> Tensor<T>::raw() const {
    std::vector<T> raw(elems_);
    if (elems_ > 0) CUDA_CHECK(cudaMemcpy(raw.data(), buffer_.get(), elems_ * sizeof(T), cudaMemcpyDeviceToHost));
    return raw;
}

template <class T>
std::vector<float> Tensor<T>::read() const {
    const std::vector<T> bits = raw();
    std::vector<float> values(elems_);
    std::transform(bits.begin(), bits.end(), values.begin(), [](T x) { return to_float(x); });
    return values;
}

template <class T>
void Tensor<T>::expect_sentinel(const std::string& name) const {
    unsigned char bytes[kSentinelBytes];
    CUDA_CHECK(cudaMemcpy(bytes, buffer_.get() + elems_, kSentinelBytes, cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < kSentinelBytes; ++i) {
        ASSERT_EQ(bytes[i], kSentinel) << name << ": byte " << i << " after its end was written";
    }
}

Values random_values(size_t elems, unsigned salt, float scale) {
    std::mt19937 random(salt);
    std::vector<float> values(std::min(elems, Values::kPeriod));
    for (float& value : values) value = scale * (float(random() >> 8) * 0x1p-23f - 1);
    return {std::move(values), elems};
}

template <class T>
std::vector<float> rounded(std::vector<float> values) {
    for (float& value : values) value = to_float(from_float<T>(value));
    return values;
}

void expect_close(const std::string& name, const std::vector<float>& actual, const std::vector<float>& expected,
                  const std::vector<float>& naive, double float_terms) {
    ASSERT_EQ(actual.size(), expected.size()) << name;
    ASSERT_EQ(naive.size(), expected.size()) << name;
    double naive_error = 0, largest = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
        naive_error = std::max(naive_error, std::abs(double(naive[i]) - expected[i]));
        largest = std::max(largest, std::abs(double(expected[i])));
    }
    const double allowed = std::max(2 * naive_error, float_terms * 0x1p-24 * largest);
    for (size_t i = 0; i < expected.size(); ++i) {
        // The condition is false for NaN.
        ASSERT_TRUE(std::abs(double(actual[i]) - expected[i]) <= allowed || actual[i] == expected[i])
            << name << "[" << i << "] of " << expected.size() << ": " << actual[i] << ", expected " << expected[i]
            << ", allowed " << allowed;
    }
}

template <class T>
void expect_close(const std::string& name, const Tensor<T>& actual, const std::vector<float>& expected,
                  const std::vector<float>& naive, double float_terms) {
    actual.expect_sentinel(name);
    expect_close(name, actual.read(), expected, naive, float_terms);
}

#define KILN_TEST_ELEMENT(T)                                                                    \
    template class Tensor<T>;                                                                   \
    template std::vector<float> rounded<T>(std::vector<float>);                                 \
    template void expect_close(const std::string&, const Tensor<T>&, const std::vector<float>&, \
                               const std::vector<float>&, double);
template class Tensor<int>;
template class Tensor<unsigned char>;
KILN_FOR_TYPES(KILN_TEST_ELEMENT)

}  // namespace kiln::test
