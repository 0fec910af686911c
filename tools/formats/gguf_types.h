#pragma once
// The types of tensors in GGUF files. A row of a tensor is a sequence of blocks; a block of a quantized type is a few
// small integers with a float16 scale. The layouts are ggml's.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace kiln {

struct GgufType {
    std::string_view name;                                // "Q8_0"; as an option in lower case
    uint32_t id;                                          // in the tensor's entry
    uint32_t file_type;                                   // of a file whose matrices mostly have this type
    size_t elems, bytes;                                  // of a block
    float max;                                            // the largest magnitude that does not become infinite
    std::string_view instead;                             // for rows whose length is no multiple of `elems`
    void (*encode)(const float* in, unsigned char* out);  // one block
    void (*decode)(const unsigned char* in, float* out);

    bool fits(uint64_t cols) const { return cols % elems == 0; }
    uint64_t row_bytes(uint64_t cols) const { return cols / elems * bytes; }
};

std::span<const GgufType> gguf_types();
const GgufType* find_gguf_type(uint32_t id);            // null: Kiln cannot read it
const GgufType* find_gguf_type(std::string_view name);  // in any case; null: there is none
std::string gguf_type_names();                          // "F32, F16, ..."

}  // namespace kiln
