#pragma once
// The element types of tensors, by name.
#include <string>
#include <vector>

#include "cuda/device/convert.h"

namespace kiln::test {

enum class Element { float32, bfloat16, float16 };

inline std::string name_of(Element element) {
    return element == Element::float32 ? "float32" : element == Element::bfloat16 ? "bfloat16" : "float16";
}
inline const std::vector<Element> kAllElements = {Element::float32, Element::bfloat16, Element::float16};
inline const std::vector<Element> kNarrowElements = {Element::bfloat16, Element::float16};

}  // namespace kiln::test
