#pragma once
// The element types of tensors, by name.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <string>
#include <type_traits>
#include <vector>

namespace kiln::test {

enum class Element { float32, bfloat16, float16 };

inline std::string name_of(Element element) {
    return element == Element::float32 ? "float32" : element == Element::bfloat16 ? "bfloat16" : "float16";
}
inline const std::vector<Element> kAllElements = {Element::float32, Element::bfloat16, Element::float16};

template <class T>
float to_host_float(T value) {
    return static_cast<float>(value);
}
template <class T>
T from_host_float(float value) {
    if constexpr (std::is_same_v<T, __nv_bfloat16>) {
        return __float2bfloat16_rn(value);
    } else if constexpr (std::is_same_v<T, __half>) {
        return __float2half_rn(value);
    } else {
        return static_cast<T>(value);
    }
}

}  // namespace kiln::test
